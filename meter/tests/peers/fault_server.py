"""A pymodbus server that misbehaves by a seeded plan, and whose registers give every wrong or old value away.

Units 1 and 2. Holding registers:
- 0x5000 to 0x5007: energies as an ABB B23 has them (u64, 0.01 kWh): import is the server's monotonic clock in ms plus
  10^10 times the unit, export twice that plus 7;
- 0x5B00 to 0x5B2D: live values as an ABB B23 has them: power in W is the clock in ms modulo 4 000 000, voltage L1 is
  230 V plus 0.1 V times the unit, voltage L2 is 230 V plus 0.1 V times power modulo 50, 50 Hz;
- 0x8900: serial number 5000 plus the unit;
- any other: a number made of its own address and the unit, so that no register reads like another.

Prints "PORT <n>" when it listens. Then answers lines on standard input: "CLOCK" with its monotonic clock in ns, "FAULTS"
with the faults so far as JSON. Ends when standard input ends.
"""

import argparse
import asyncio
import json
import random
import struct
import sys
import threading
import time
from collections import Counter
from functools import partial

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.framer.rtu import FramerRTU
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

UNITS = (1, 2)
ENERGY, LIVE, SERIAL = 0x5000, 0x5B00, 0x8900

# Per 1 000 answers. "late" may stay within the client's time-out or not; "busy" is an exception, all else is on the wire.
PLAN = {
    "late": 50,
    "lost": 15,
    "cut": 10,
    "corrupted": 10,
    "other": 10,
    "trickled": 20,
    "twice": 10,
    "noise": 5,
    "busy": 15,
}


def words(form, *values):
    data = struct.pack(">" + form, *values)
    return struct.unpack(f">{len(data) // 2}H", data)


def plain_word(unit, address):
    return (address * 0x9E37 + unit * 0x1F35) & 0xFFFF


def clock_ms():
    return time.monotonic_ns() // 1_000_000


def special_words(unit):
    """The registers that follow the clock, all of one instant."""
    now = clock_ms()
    counted = now + unit * 10_000_000_000
    live = [0xFFFF] * 46
    watts = now % 4_000_000
    live[0:6] = words("III", 2300 + unit, 2300 + watts % 50, 2300)
    live[0x14:0x16] = words("i", watts * 100)
    live[0x2C] = 5000
    blocks = {ENERGY: words("QQ", counted, counted * 2 + 7), LIVE: live, SERIAL: words("I", 5000 + unit)}
    return {start + offset: word for start, block in blocks.items() for offset, word in enumerate(block)}


class Faults:
    def __init__(self, seed, share):
        self.random = random.Random(seed)
        self.share = share
        self.count = Counter()

    def choose(self, kinds):
        lot = self.random.random() * 1_000
        for kind, per_mille in PLAN.items():
            lot -= per_mille * self.share
            if lot < 0:
                if kind not in kinds:
                    return None
                self.count[kind] += 1
                return kind
        return None


async def fill(faults, unit, function, start, address, count, registers, _values):
    special = special_words(unit)
    for register in range(address, address + count):
        registers[register - start] = special.get(register, plain_word(unit, register))
    return ExcCodes.DEVICE_BUSY if faults.choose({"busy"}) else None


class FaultyHandler(ServerRequestHandler):
    """Sends answers as the plan wants. It sleeps like a slow meter does: nobody else is served meanwhile."""

    def send(self, data, addr=None):
        faults = self.server.faults
        wire = faults.choose(PLAN.keys() - {"busy"}) if data else None
        if wire == "late":
            time.sleep(faults.random.uniform(0.05, 0.4))
        elif wire == "lost":
            return
        elif wire == "cut":
            data = data[: -faults.random.randint(1, len(data) - 1)]
        elif wire == "corrupted":
            data = self.corrupted(data)
        elif wire == "other":
            data = self.of_other(data)
        elif wire == "twice":
            data = data + data
        elif wire == "noise":
            data = bytes(faults.random.randrange(256) for _ in range(faults.random.randint(1, 12))) + data
        if wire == "trickled":
            for byte in data:
                time.sleep(0.002)
                self.put(bytes([byte]))
        else:
            self.put(data)

    def put(self, data):
        # pymodbus joins what is written to a serial line in one turn of its loop: write past that.
        if self.server.on_line:
            self.transport.sync_serial.write(data)
        else:
            super().send(data)

    def corrupted(self, data):
        """A damaged byte that can be noticed: anywhere on a line (the CRC tells), in the header on TCP."""
        at = self.server.faults.random.randrange(len(data) if self.server.rtu else 8)
        return data[:at] + bytes([data[at] ^ self.server.faults.random.randint(1, 255)]) + data[at + 1 :]

    def of_other(self, data):
        """Another transaction's answer on TCP, another unit's on a line, right otherwise."""
        if not self.server.rtu:
            return bytes([data[0], data[1] ^ 0x55]) + data[2:]
        body = bytes([data[0] + 1]) + data[1:-2]
        return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def server_of(given, faults):
    bits = [SimData(0, count=1, datatype=DataType.BITS)]
    registers = [SimData(0, count=0x10000, values=0, datatype=DataType.REGISTERS)]
    tables = (bits, bits, registers, registers)
    devices = [SimDevice(unit, simdata=tables, action=partial(fill, faults, unit)) for unit in UNITS]
    if given.transport == "rtu":
        server = ModbusSerialServer(devices, port=given.device, baudrate=9600, ignore_missing_devices=True)
    else:
        framer = FramerType.SOCKET if given.transport == "tcp" else FramerType.RTU
        address = ("127.0.0.1", given.port)
        server = ModbusTcpServer(devices, framer=framer, address=address, ignore_missing_devices=True)
    server.faults, server.on_line, server.rtu = faults, given.transport == "rtu", given.transport != "tcp"
    server.callback_new_connection = lambda: FaultyHandler(server, None, None, None)
    return server


def answer_lines(faults, loop, ended):
    for line in sys.stdin:
        if line.strip() == "CLOCK":
            print("CLOCK", time.monotonic_ns(), flush=True)
        elif line.strip() == "FAULTS":
            print("FAULTS", json.dumps(faults.count), flush=True)
    loop.call_soon_threadsafe(ended.set)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("transport", choices=["tcp", "rtu", "rtu-tcp"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--device", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0, help="1 is the plan, 0 is none")
    given = parser.parse_args()
    faults, ended = Faults(given.seed, given.faults), asyncio.Event()
    server = server_of(given, faults)
    await server.serve_forever(background=True)
    listening = server.transport.sockets[0].getsockname()[1] if given.transport != "rtu" else 0
    print("PORT", listening, flush=True)
    threading.Thread(target=answer_lines, args=(faults, asyncio.get_running_loop(), ended), daemon=True).start()
    await ended.wait()


asyncio.run(main())
