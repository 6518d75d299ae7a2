"""pymodbus servers that hold the register maps of device profiles.

Reads the same TOML files as the client under test, but turns values into registers with pymodbus's own number formats
and word orders, and SunSpec models into images with pysunspec2: neither knows our code.

One server per case, in it one unit per profile. Prints "METER <case> <port> <unit> <profile> <serial or ->" for each
device, then "READY", and ends when its standard input ends.
"""

import argparse
import asyncio
import json
import struct
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import sunspec2.device
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TYPES = {
    "u16": ("UINT16", 1),
    "i16": ("INT16", 1),
    "u32": ("UINT32", 2),
    "i32": ("INT32", 2),
    "u64": ("UINT64", 4),
    "i64": ("INT64", 4),
    "f32": ("FLOAT32", 2),
}
UNITS = {"Wh": 0, "kWh": 3, "MWh": 6, "W": 0, "kW": 3, "V": 3, "mV": 0, "A": 3, "mA": 0, "Hz": 3}
NUMBER, TEXT = "21040123", "CW-7E1.B4"
QUANTITIES = ("voltage_l1", "voltage_l2", "voltage_l3", "current_l1", "current_l2", "current_l3", "frequency")


def base_units(case):
    """The values of a case in Wh, W, mV, mA and mHz."""
    values = {key: case[key] for key in ("import", "export", "power", "frequency")}
    for phase in (1, 2, 3):
        values[f"voltage_l{phase}"] = case["voltage"][phase - 1]
        values[f"current_l{phase}"] = case["current"][phase - 1]
    return values


def points_of(profile, values):
    """Each register of the profile with the value it must hold, in base units and with the device's own sign."""
    energy = [(profile["energy"][key], values[key]) for key in ("import", "export") if key in profile["energy"]]
    live = profile["live"]
    power = live["power"] if isinstance(live["power"], list) else [live["power"]]
    shares = shared_out(power, values["power"])
    others = [(live[key], values[key]) for key in QUANTITIES if key in live]
    for block, points in (("energy", energy), ("live", [*zip(power, shares), *others])):
        for point, value in points:
            yield block, point, -value if point.get("invert") or point.get("absolute") else value


def shared_out(parts, watts):
    """Import and export registers apart, or the phases in unequal parts."""
    if len(parts) == 1:
        return [watts]
    if any(part.get("invert") for part in parts):
        return [min(watts, 0) if part.get("invert") else max(watts, 0) for part in parts]
    first = [watts // 2, watts // 3][: len(parts) - 1]
    return [*first, watts - sum(first)]


def raw_number(point, value):
    step, unit = point["unit"].split(" ") if " " in point["unit"] else ("1", point["unit"])
    raw = Decimal(value) / (Decimal(step) * 10 ** UNITS[unit])
    return float(raw) if point["type"] == "f32" else int(raw)


def sim_data(point, value, order):
    kind, _ = TYPES[point["type"]]
    order = point.get("words", order)
    if order == "high-first":
        return SimData(point["address"], values=value, datatype=DataType[kind])
    words = ModbusClientMixin.convert_to_registers(value, ModbusClientMixin.DATATYPE[kind], word_order="little")
    return SimData(point["address"], values=words, datatype=DataType.REGISTERS)


def fixed_map(profile, values):
    """Holding and input registers of a device with fixed addresses, and its serial number."""
    order = profile.get("words", "high-first")
    tables = {3: {}, 4: {}}
    for block, point, value in points_of(profile, values):
        table = tables[profile[block]["function"]]
        table[point["address"]] = (TYPES[point["type"]][1], sim_data(point, raw_number(point, value), order))
    serial = add_identity(profile.get("identity"), tables, order)
    for block in (profile["live"], profile["energy"]):
        fill(tables[block["function"]], block["address"], block["count"] + block.get("spare", 0))
    lists = {function: [data for _, data in table.values()] for function, table in tables.items()}
    return lists[3], lists[4], serial


def add_identity(identity, tables, order):
    if identity is None:
        return "-"
    table, address = tables[identity["function"]], identity["address"]
    if identity["type"] == "text":
        length = identity["registers"]
        padded = TEXT.ljust(length * 2, "\0")
        table[address] = (length, SimData(address, values=padded, datatype=DataType.STRING))
        return TEXT
    point = {"type": identity["type"], "address": address, "words": identity.get("words", "high-first")}
    table[address] = (TYPES[point["type"]][1], sim_data(point, int(NUMBER), order))
    return NUMBER


def fill(table, address, count):
    """All ones where a block has nothing of the profile: what devices send there is of no concern."""
    taken = {start + offset for start, (length, _) in table.items() for offset in range(length)}
    for register in range(address, address + count):
        if register not in taken:
            table[register] = (1, SimData(register, values=0xFFFF, datatype=DataType.REGISTERS))


def sunspec_names(model):
    """Points by what they mean, as the models name them: nothing here knows an address."""
    if model < 200:
        names = {"export": "WH", "power": "W", "voltage": "PhVph%s", "current": "Aph%s"}
    elif model < 700:
        names = {
            "import": "TotWhImp", "export": "TotWhExp", "power": "W", "voltage": "PhVph%s", "current": "Aph%s",
        }
    else:
        names = {"import": "TotWhAbs", "export": "TotWhInj", "power": "W", "voltage": "VL%s", "current": "AL%s"}
    phases = "ABC" if model < 700 else "123"
    points = {key: names[key] for key in ("import", "export", "power") if key in names}
    for number, phase in enumerate(phases, 1):
        points[f"voltage_l{number}"] = names["voltage"] % phase
        points[f"current_l{number}"] = names["current"] % phase
    return {**points, "frequency": "Hz"}


def sunspec_model(profile, values, scales):
    number = profile["discover"]["sunspec_model"]
    model = sunspec2.device.Model(number)
    names = sunspec_names(number)
    for _, point, value in points_of(profile, values):
        quantity = next(key for key in names if point in (profile["energy"].get(key), profile["live"].get(key)))
        target = model.points[names[quantity]]
        unit = Decimal(10) ** UNITS[point["unit"]]
        factor_name = target.pdef.get("sf")
        if factor_name is None:
            target.value = float(Decimal(value) / unit)
            continue
        factor = scales[quantity.split("_")[0].replace("import", "energy").replace("export", "energy")]
        model.points[factor_name].value = factor
        target.value = int(Decimal(value) / unit / Decimal(10) ** factor)
    return model.get_mb()


def common_model(serial):
    common = sunspec2.device.Model(1)
    common.points["Mn"].value = "Maker"
    common.points["SN"].value = serial
    return common.get_mb()


def sunspec_map(profile, case):
    """Marker, what the case has before the meter, the meter with its own common model, end."""
    before = b""
    if case["behind_inverter"]:
        inverter = 103 if profile["discover"]["sunspec_model"] > 200 else 120
        before = common_model("INVERTER-1") + sunspec2.device.Model(inverter).get_mb()
    model = sunspec_model(profile, base_units(case), case["scales"])
    after = sunspec2.device.Model(120).get_mb() if case["model_after"] else b""
    image = b"SunS" + before + common_model(TEXT) + model + after + struct.pack(">HH", 0xFFFF, 0)
    words = list(struct.unpack(f">{len(image) // 2}H", image))
    # pymodbus wants every table to have something.
    inputs = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
    return [SimData(case["base"], values=words, datatype=DataType.REGISTERS)], inputs, TEXT


def device(unit, profile, case):
    if "discover" in profile:
        holding, inputs, serial = sunspec_map(profile, case)
    else:
        holding, inputs, serial = fixed_map(profile, base_units(case))
    nothing = [SimData(0, values=[0], datatype=DataType.REGISTERS)]
    bits = [SimData(0, count=1, datatype=DataType.BITS)]
    return SimDevice(unit, simdata=(bits, bits, holding or nothing, inputs or nothing)), serial


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="the profiles")
    parser.add_argument("cases", type=json.loads, help="JSON array of what the devices hold")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.toml"))
    profiles = [tomllib.loads(path.read_text()) for path in paths]
    servers = []
    for number, case in enumerate(arguments.cases):
        made = [device(unit, profile, case) for unit, profile in enumerate(profiles, 1)]
        server = ModbusTcpServer([it for it, _ in made], address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        servers.append(server)
        port = server.transport.sockets[0].getsockname()[1]
        for unit, (profile, (_, serial)) in enumerate(zip(profiles, made), 1):
            print("METER", number, port, unit, profile["name"], serial)
    print("READY", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
