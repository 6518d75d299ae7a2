"""A pymodbus server of several meters on one Modbus RTU line: a serial port, or RTU over TCP.

Units are given as UNIT=MODEL:SERIAL:IMPORT_WH. Prints "PORT <n>" when it listens (0 for a serial port) and ends when its
standard input ends.
"""

import argparse
import asyncio
import sys

from meter_server import MODELS
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def device(text):
    unit, _, rest = text.partition("=")
    model, serial, import_wh = rest.split(":")
    meter = argparse.Namespace(
        serial=serial, import_wh=float(import_wh), export_wh=0.0, power_w=float(unit), volts=[230.1, 231.2, 229.3],
        hertz=49.98, base=40000, energy_factor=0,
    )
    holding, inputs = MODELS[model](meter)
    bits = [SimData(0, count=1, datatype=DataType.BITS)]
    return SimDevice(int(unit), simdata=(bits, bits, holding, inputs))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("units", nargs="+")
    arguments = parser.parse_args()
    devices = [device(unit) for unit in arguments.units]
    if arguments.device:
        server = ModbusSerialServer(devices, port=arguments.device, baudrate=9600, framer=FramerType.RTU)
    else:
        server = ModbusTcpServer(devices, address=("127.0.0.1", arguments.port), framer=FramerType.RTU)
    await server.serve_forever(background=True)
    port = 0 if arguments.device else server.transport.sockets[0].getsockname()[1]
    print("PORT", port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
