"""A pymodbus client for servers of ours.

`modbus_client.py tcp|rtu-tcp PORT read UNIT FUNCTION ADDRESS COUNT` prints the registers, or `EXCEPTION <code>`.
`modbus_client.py tcp|rtu-tcp PORT others UNIT` tries every function that is no read of registers and prints the name and
what came back, one a line.
"""

import sys

from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient


def told(answer):
    return f"EXCEPTION {answer.exception_code}" if answer.isError() else f"DONE {answer}"


def others(client, unit):
    yield "read_coils", client.read_coils(0, count=1, device_id=unit)
    yield "read_discrete_inputs", client.read_discrete_inputs(0, count=1, device_id=unit)
    yield "write_coil", client.write_coil(0, True, device_id=unit)
    yield "write_register", client.write_register(0, 1, device_id=unit)
    yield "write_coils", client.write_coils(0, [True, False], device_id=unit)
    yield "write_registers", client.write_registers(0, [1, 2], device_id=unit)
    yield "mask_write_register", client.mask_write_register(address=0, and_mask=0, or_mask=1, device_id=unit)
    both = dict(read_address=0, read_count=1, write_address=0, values=[1], device_id=unit)
    yield "readwrite_registers", client.readwrite_registers(**both)
    yield "read_device_information", client.read_device_information(read_code=1, object_id=0, device_id=unit)
    yield "report_device_id", client.report_device_id(device_id=unit)


def main():
    framing, port, what, unit, *rest = sys.argv[1:]
    framer = FramerType.SOCKET if framing == "tcp" else FramerType.RTU
    client = ModbusTcpClient("127.0.0.1", port=int(port), framer=framer, timeout=5, retries=0)
    assert client.connect(), "nobody listens"
    if what == "read":
        function, address, count = map(int, rest)
        read = {3: client.read_holding_registers, 4: client.read_input_registers}[function]
        answer = read(address, count=count, device_id=int(unit))
        print(told(answer) if answer.isError() else " ".join(map(str, answer.registers)))
    else:
        for name, answer in others(client, int(unit)):
            print(name, told(answer))


main()
