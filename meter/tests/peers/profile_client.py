"""Reads devices that our own encoder laid out, as other software does: pymodbus decodes the registers of the profiles,
pysunspec2 scans the SunSpec devices and applies the scale factors.

Unit n of the server at the port is the n-th profile of the folder by name. Prints "VALUE <profile> <quantity> <value>"
in Wh, W, V, A and Hz, and "SERIAL <profile> <text>".
"""

import sys
import tomllib
from pathlib import Path

from pymodbus.client import ModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

KINDS = {"u16": "UINT16", "i16": "INT16", "u32": "UINT32", "i32": "INT32", "u64": "UINT64", "i64": "INT64", "f32": "FLOAT32"}
UNITS = {"Wh": 1, "kWh": 1000, "W": 1, "kW": 1000, "V": 1, "A": 1, "Hz": 1}


def read(client, unit, function, address, count):
    ask = client.read_holding_registers if function == 3 else client.read_input_registers
    answer = ask(address, count=count, device_id=unit)
    if answer.isError():
        raise SystemExit(f"unit {unit} register {address}: {answer}")
    return answer.registers


def number(client, unit, function, point, order):
    kind = client.DATATYPE[KINDS[point["type"]]]
    registers = read(client, unit, function, point["address"], kind.value[1])
    order = "big" if point.get("words", order) == "high-first" else "little"
    value = client.convert_from_registers(registers, kind, word_order=order)
    step, symbol = point["unit"].split(" ") if " " in point["unit"] else ("1", point["unit"])
    value *= float(step) * UNITS[symbol]
    value = -value if point.get("invert") else value
    return abs(value) if point.get("absolute") else value


def fixed(client, unit, profile):
    order = profile.get("words", "high-first")
    for block in ("energy", "live"):
        for name, point in profile[block].items():
            function = profile[block]["function"]
            if isinstance(point, dict):
                yield name, number(client, unit, function, point, order)
            elif isinstance(point, list):
                yield name, sum(number(client, unit, function, part, order) for part in point)


def serial_of(client, unit, identity):
    if identity["type"] == "text":
        registers = read(client, unit, identity["function"], identity["address"], identity["registers"])
        return client.convert_from_registers(registers, client.DATATYPE.STRING)
    point = {**identity, "unit": "W", "words": identity.get("words", "high-first")}
    return str(int(number(client, unit, identity["function"], point, "high-first")))


def point_names(model, phases):
    names = {"power": "W", "frequency": "Hz"}
    names |= {"export": "WH"} if model < 200 else {"import": "TotWhImp", "export": "TotWhExp"}
    if model >= 700:
        names |= {"import": "TotWhAbs", "export": "TotWhInj"}
    for index, phase in enumerate(phases, 1):
        names[f"voltage_l{index}"] = f"VL{index}" if model >= 700 else f"PhVph{phase}"
        names[f"current_l{index}"] = f"AL{index}" if model >= 700 else f"Aph{phase}"
    return names


def sunspec(port, unit, profile):
    device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=10)
    device.scan()
    number = profile["discover"]["sunspec_model"]
    model = device.models[number][0]
    for name, point in point_names(number, "ABC").items():
        block = profile["energy" if name in ("import", "export") else "live"]
        if name in block:
            value = model.points[point].cvalue
            yield name, -value if block[name].get("invert") else value
    yield "serial", device.models[1][0].points["SN"].value
    device.close()


def main():
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=10)
    client.connect()
    for unit, path in enumerate(sorted(folder.glob("*.toml")), 1):
        profile = tomllib.loads(path.read_text())
        values = dict(sunspec(port, unit, profile) if "discover" in profile else fixed(client, unit, profile))
        if "discover" not in profile and "identity" in profile:
            values["serial"] = serial_of(client, unit, profile["identity"])
        serial = values.pop("serial", None)
        for name, value in values.items():
            print("VALUE", profile["name"], name, value)
        if serial is not None:
            print("SERIAL", profile["name"], serial)


main()
