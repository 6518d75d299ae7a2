"""A pymodbus server that stands for a device to be controlled: a SunSpec storage inverter, or plain registers.

Laid out by hand from SunSpec's own model definitions: nothing here knows the program under test. Prints "PORT <n>" when it
listens. Takes one command a line on its standard input, answers each with one line, and ends when that ends:

    get ADDRESS COUNT       the registers, decimal
    set ADDRESS VALUE...    sets them as the device itself would, answers "ok"
    writes                  every write since the last time this was asked, as ADDRESS=VALUE,VALUE...; separated by ";"
"""

import argparse
import asyncio
import struct
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

WRITING = {6, 16}


def words(format, *values):
    data = struct.pack(">" + format, *values)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def storage(options):
    """Model 124: header, then WChaMax to InOutWRte_SF in the order of the specification."""
    body = [
        options.w_cha_max, 100, 100, 0, 0xFFFF, 500, options.charge, 0xFFFF, 0xFFFF, 4,
        10_000, 10_000, 0, options.revert, 0, options.grid,
        *words("h", options.w_cha_max_sf), *words("hhhh", -2, -32768, -2, -2),
        *words("hhh", -32768, -32768, -2),
    ]
    assert len(body) == 24
    return [124, 24, *body]


def sunspec(options):
    common = [1, 66, *words("32s", b"Maker"), *[0] * 50]
    inverter = [103, 50, *[0xFFFF] * 50]
    models = [] if options.no_storage else storage(options)
    image = [*words("4s", b"SunS"), *common, *inverter, *models, 0xFFFF, 0]
    return [SimData(options.base, values=image, datatype=DataType.REGISTERS)]


def plain(options):
    values = [0] * 100
    for text in options.set:
        address, value = (int(part) for part in text.split("="))
        values[address - 100] = value
    return [SimData(100, values=values, datatype=DataType.REGISTERS)]


class Device:
    def __init__(self, fixed):
        self.fixed = fixed
        self.writes = []
        self.start, self.registers = 0, []

    async def action(self, function, start, address, count, registers, values):
        self.start, self.registers = start, registers
        if values and function in WRITING:
            self.writes.append(f"{address}=" + ",".join(str(value) for value in values))
            for position in range(len(values)):
                if address + position in self.fixed:
                    values[position] = registers[address + position - start]
        return None

    def command(self, line):
        name, *numbers = line.split()
        numbers = [int(number) for number in numbers]
        if name == "writes":
            said, self.writes = ";".join(self.writes), []
            return said
        place = numbers[0] - self.start
        if name == "get":
            return " ".join(str(value) for value in self.registers[place : place + numbers[1]])
        self.registers[place : place + len(numbers) - 1] = numbers[1:]
        return "ok"


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("map", choices=["sunspec", "plain"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--base", type=int, default=40000)
    parser.add_argument("--no-storage", action="store_true")
    parser.add_argument("--w-cha-max", type=int, default=512)
    parser.add_argument("--w-cha-max-sf", type=int, default=1)
    parser.add_argument("--charge", type=int, default=5550)
    parser.add_argument("--revert", type=int, default=0)
    parser.add_argument("--grid", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--fixed", type=int, action="append", default=[])
    options = parser.parse_args()
    device = Device(options.fixed)
    data = sunspec(options) if options.map == "sunspec" else plain(options)
    server = ModbusTcpServer(
        SimDevice(1, simdata=data, action=device.action), address=("127.0.0.1", options.port)
    )
    await server.serve_forever(background=True)
    # So that commands find the registers before the first request does.
    first = options.base if options.map == "sunspec" else 100
    await server.context.async_getValues(1, 3, first, 1)
    print("PORT", server.transport.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(device.command(line), flush=True)


asyncio.run(main())
