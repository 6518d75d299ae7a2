#!/usr/bin/env python3
"""Re-encodes a household data set for the demo: `encode.py ORIGINAL_DIR OUTPUT_DIR`.

The original has one CSV per quantity, kW with up to three decimals, one row per 15 minutes and one column per home.
The output says the same in whole watts, one row per day, and homes with identical values share one row:

    homes,day,00:00,00:15,...,23:45
    h001+h025,2016-06-13,415,364,...

Nothing is rounded: a value that is not a whole number of watts stops the program. Left out are the reactive power and
the reference power flow, which the demo does not need; homes, buses, lines and transformer are copied as they are.
"""

import csv
import decimal
import pathlib
import shutil
import sys

COPIED = ["homes.csv", "buses.csv", "lines.csv", "transformer.csv"]
SEASONS = ["summer", "winter"]
QUANTITIES = ["load_base", "load_hp", "load_ev", "pv", "pvb_out", "pvb_raw"]
SLOTS = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(0, 24 * 60, 15)]


def watts(kilowatts, where):
    value = decimal.Decimal(kilowatts) * 1000
    if value < 0 or value != int(value):
        sys.exit(f"{where}: {kilowatts} kW is not a whole number of watts >= 0")
    return int(value)


def read_columns(path):
    """The file's time stamps, and each home's values in W."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    times = [row[0] for row in rows]
    homes = {
        home: [watts(row[column], f"{path} {row[0]} {home}") for row in rows]
        for column, home in enumerate(header)
        if column > 0
    }
    return times, homes


def check_times(path, times):
    """Whole days, every quarter-hour once: the output keeps no time stamps, so they must follow from their place."""
    days = [time.partition("T")[0] for time in times[:: len(SLOTS)]]
    if times != [f"{day}T{slot}" for day in days for slot in SLOTS]:
        sys.exit(f"{path}: the rows are not whole days of quarter-hours in order")
    return days


def encode(source, target):
    times, homes = read_columns(source)
    days = check_times(source, times)
    alike = {}
    for home, values in homes.items():
        alike.setdefault(tuple(values), []).append(home)
    with target.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["homes", "day", *SLOTS])
        for values, names in alike.items():
            for number, day in enumerate(days):
                start = number * len(SLOTS)
                out.writerow(["+".join(names), day, *values[start : start + len(SLOTS)]])


def main(original, output):
    output.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(original / name, output / name)
    for season in SEASONS:
        for quantity in QUANTITIES:
            encode(original / f"{season}_{quantity}_kw.csv", output / f"{season}_{quantity}_w.csv")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
