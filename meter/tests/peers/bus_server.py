"""Several meters of different models on one bus, served by pymodbus.

Each unit is written MODEL:UNIT:SERIAL, with the register tables of meter_server.py. Prints "PORT <n>" (or "PORT 0" on a
serial line) when it listens and ends when its standard input ends.
"""

import argparse
import asyncio
import sys
from types import SimpleNamespace

from pymodbus import FramerType, pymodbus_apply_logging_config
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from meter_server import MODELS


def device(text):
    model, unit, serial = text.split(":")
    meter = SimpleNamespace(
        serial=serial,
        import_wh=1_234_000.0 + int(unit) * 1000,
        export_wh=890_000.0,
        power_w=500.0 + int(unit),
        volts=[230.1, 231.2, 229.3],
        hertz=49.98,
        base=40000,
        energy_factor=0,
    )
    holding, inputs = MODELS[model](meter)
    bits = [SimData(0, count=1, datatype=DataType.BITS)]
    return SimDevice(int(unit), simdata=(bits, bits, holding, inputs))


def only_known(units, mute):
    """On a real line an absent unit is silent; pymodbus answers for it with exception 4, which is cut out here.

    Mute meters also say nothing where they have no register.
    """

    def trace(sending, data):
        exception = sending and len(data) == 5
        absent = exception and data[0] not in units and 0 not in units and data[2] == 4
        return b"" if absent or (exception and mute) else data

    return trace


async def main():
    # Questions to absent units are this test's purpose, not worth a line each.
    pymodbus_apply_logging_config("CRITICAL")
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=["tcp", "rtu-tcp", "serial"])
    parser.add_argument("units", nargs="+")
    parser.add_argument("--path")
    parser.add_argument("--mute", action="store_true")
    options = parser.parse_args()
    devices = [device(text) for text in options.units]
    numbers = [int(text.split(":")[1]) for text in options.units]
    if options.transport == "serial":
        settings = {"framer": FramerType.RTU, "port": options.path, "baudrate": 9600}
        server = ModbusSerialServer(devices, trace_packet=only_known(numbers, options.mute), **settings)
    elif options.transport == "rtu-tcp":
        settings = {"framer": FramerType.RTU, "address": ("127.0.0.1", 0)}
        server = ModbusTcpServer(devices, trace_packet=only_known(numbers, options.mute), **settings)
    else:
        server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    tcp = options.transport != "serial"
    print("PORT", server.transport.sockets[0].getsockname()[1] if tcp else 0, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
