/* Included before Debian's libmodbus example servers, which are compiled as they are: takes port and serial device from
 * the environment instead of the compiled-in ones, so that several can run at once, and gives every holding register of
 * the unit-test server a value that names its address (0x4000 + address). */
#include <stdlib.h>
#include <modbus.h>

static modbus_mapping_t *mapping_with_values(unsigned b, unsigned nb, unsigned ib, unsigned nib,
                                             unsigned r, unsigned nr, unsigned ir, unsigned nir)
{
    modbus_mapping_t *mapping = modbus_mapping_new_start_address(b, nb, ib, nib, r, nr, ir, nir);
    for (unsigned i = 0; mapping != NULL && i < nr; i++)
        mapping->tab_registers[i] = (uint16_t)(0x4000 + r + i);
    return mapping;
}

#define modbus_mapping_new_start_address mapping_with_values
#define modbus_new_tcp(address, port) modbus_new_tcp(address, atoi(getenv("MODBUS_PORT")))
#define modbus_new_rtu(device, ...) modbus_new_rtu(getenv("MODBUS_DEVICE"), __VA_ARGS__)
