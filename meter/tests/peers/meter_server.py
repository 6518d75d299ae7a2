"""A pymodbus server with the register table of one meter model.

Laid out by hand from the register tables of the models, with Python's own number formats: nothing here knows the
profiles that the client under test reads. Prints "PORT <n>" when it listens and ends when its standard input ends.
"""

import argparse
import asyncio
import struct
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

WORDS = DataType.REGISTERS


def words(format, *values):
    data = struct.pack(">" + format, *values)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def text(value, registers):
    return words(f"{registers * 2}s", value.encode())


def sdm630(meter):
    """Input registers: single precision, V, W, Hz, kWh. Holding registers: the serial number."""
    table = [0.0] * 39
    table[0:3] = meter.volts
    table[0x34 // 2] = meter.power_w
    table[0x46 // 2] = meter.hertz
    table[0x48 // 2] = meter.import_wh / 1000
    table[0x4A // 2] = meter.export_wh / 1000
    holding = [SimData(0xFC00, values=int(meter.serial), datatype=DataType.UINT32)]
    return holding, [SimData(0, values=table, datatype=DataType.FLOAT32)]


def abb_b23(meter):
    """Holding registers: integers in 0.1 V, 0.01 W, 0.01 Hz, 0.01 kWh; all ones where there is no value."""
    live = [0xFFFF] * 46
    live[0:6] = words("III", *(round(volt * 10) for volt in meter.volts))
    live[0x14:0x16] = words("i", round(meter.power_w * 100))
    live[0x2C] = round(meter.hertz * 100)
    counters = words("QQ", int(meter.import_wh / 10), int(meter.export_wh / 10))
    holding = [
        SimData(0x5000, values=counters, datatype=WORDS),
        SimData(0x5B00, values=live, datatype=WORDS),
        SimData(0x8900, values=words("I", int(meter.serial)), datatype=WORDS),
    ]
    return holding, [SimData(0, values=[0], datatype=WORDS)]


def sunspec_203(meter):
    """Marker, common model, an inverter model to step over, the meter with its own common model, end."""
    def common(serial):
        body = [0] * 66
        body[0:16] = text("Maker", 16)
        body[48:64] = text(serial, 16)
        return [1, 66, *body]

    wye = [0x8000] * 107
    wye[0:2] = [203, 105]
    wye[8:11] = words("hhh", *(round(volt * 10) for volt in meter.volts))
    wye[15] = words("h", -1)[0]
    wye[16:18] = words("hh", round(meter.hertz * 100), -2)
    power_factor = 0 if abs(meter.power_w) < 32_000 else 1
    wye[18] = words("h", round(meter.power_w / 10**power_factor))[0]
    wye[22] = power_factor
    wye[38:40] = words("I", int(meter.export_wh / 10**meter.energy_factor))
    wye[46:48] = words("I", int(meter.import_wh / 10**meter.energy_factor))
    wye[54] = words("h", meter.energy_factor)[0]
    inverter = [103, 50] + [0xFFFF] * 50
    image = [*words("4s", b"SunS"), *common("INVERTER-1"), *inverter, *common(meter.serial), *wye, 0xFFFF, 0]
    return [SimData(meter.base, values=image, datatype=WORDS)], [SimData(0, values=[0], datatype=WORDS)]


MODELS = {"eastron-sdm630": sdm630, "abb-b23": abb_b23, "sunspec-203": sunspec_203}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--unit", type=int, default=1)
    parser.add_argument("--serial", default="21040123")
    parser.add_argument("--import-wh", type=float, default=0.0)
    parser.add_argument("--export-wh", type=float, default=0.0)
    parser.add_argument("--power-w", type=float, default=0.0)
    parser.add_argument("--volts", type=float, nargs=3, default=[230.1, 231.2, 229.3])
    parser.add_argument("--hertz", type=float, default=49.98)
    parser.add_argument("--base", type=int, default=40000)
    parser.add_argument("--energy-factor", type=int, default=0)
    return parser.parse_args()


async def main():
    meter = arguments()
    holding, inputs = MODELS[meter.model](meter)
    bits = [SimData(0, count=1, datatype=DataType.BITS)]
    device = SimDevice(meter.unit, simdata=(bits, bits, holding, inputs))
    server = ModbusTcpServer(device, address=("127.0.0.1", meter.port))
    await server.serve_forever(background=True)
    print("PORT", server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
