#!/usr/bin/env python3
"""Proves that recompute.py finds what is wrong: small exports with amounts worked out by hand, then spoilt one by one."""

import csv
import io
import json
import pathlib
import sys
import tempfile
import unittest

# Keeps the source folder as it is.
sys.dont_write_bytecode = True
import recompute  # noqa: E402

STARTS = [f"2016-06-13T00:{minute:02}:00Z" for minute in (0, 15, 30, 45)]
BEFORE = "2016-06-12T23:45:00Z"
CASES = pathlib.Path(__file__).parents[3] / "market/tests/cases/matching"

NETWORK = {
    "nodes": [
        {"id": "grid", "parent": None, "fee_up": 0, "fee_down": 0, "up_wh": None, "down_wh": None},
        {"id": "t", "parent": "grid", "fee_up": 0, "fee_down": 40_000, "up_wh": 100_000, "down_wh": 100_000},
        {"id": "a", "parent": "t", "fee_up": 0, "fee_down": 10_000, "up_wh": 100, "down_wh": 100},
        {"id": "b", "parent": "t", "fee_up": 2_000, "fee_down": 10_000, "up_wh": 100, "down_wh": 100},
    ],
    "homes": [{"id": "a1", "node": "a"}, {"id": "a2", "node": "a"}, {"id": "b1", "node": "b"}],
}
# The middle of the two prices is 165 000; in the last interval the supplier pays more than it takes: no local trade.
TARIFF = {
    "mtu_minutes": 15,
    "currency": "CNY",
    "intervals": [{"start": start, "import_price": 250_000, "export_price": 80_000} for start in STARTS[:3]]
    + [{"start": STARTS[3], "import_price": 50_000, "export_price": 80_000}],
}
# home: first registers, then (import, export) per interval
ENERGY = {
    "a1": ((1000, 500), [(0, 1000), (5, 0), (0, 100), (0, 10)]),
    "a2": ((2000, 0), [(400, 0), (5, 0), (0, 0), (10, 0)]),
    "b1": ((3000, 70), [(900, 0), (0, 7), (40, 0), (0, 0)]),
}
# Worked out by hand, per interval and home: sold, bought, local, supplier import, supplier export, supplier amount.
RESULTS = [
    # At a 400 Wh at 165 000; at t 600 Wh, for which b1 pays 175 000; the last 300 Wh of b1 cost 250 000 + 50 000.
    {
        "a1": (1000, 0, 165_000_000, 0, 0, 0),
        "a2": (0, 400, -66_000_000, 0, 0, 0),
        "b1": (0, 600, -105_000_000, 300, 0, -90_000_000),
    },
    # 7 Wh of b1 (165 000 - 2 000 each) for two wishes of 5: 3 and 3, and the odd one to a1; pays 175 000.
    {
        "a1": (0, 4, -700_000, 1, 0, -300_000),
        "a2": (0, 3, -525_000, 2, 0, -600_000),
        "b1": (7, 0, 1_141_000, 0, 0, 0),
    },
    {
        "a1": (40, 0, 6_600_000, 0, 60, 4_800_000),
        "a2": (0, 0, 0, 0, 0, 0),
        "b1": (0, 40, -7_000_000, 0, 0, 0),
    },
    {
        "a1": (0, 0, 0, 0, 10, 800_000),
        "a2": (0, 0, 0, 10, 0, -1_000_000),
        "b1": (0, 0, 0, 0, 0, 0),
    },
]
FEES = [(6_000_000 + 15_000_000), (84_000 + 150_000), 400_000, 500_000]
SUPPLIER = [75_000_000, 750_000, -4_800_000, -300_000]
HEIGHTS = [5, 8, 12, 15]


def csv_text(header, rows):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def readings():
    for home, (registers, energies) in ENERGY.items():
        yield [BEFORE, home, *registers, "", ""]
        for start, energy in zip(STARTS, energies):
            registers = [register + wh for register, wh in zip(registers, energy)]
            yield [start, home, *registers, *energy]


def settlements():
    for number, (start, results) in enumerate(zip(STARTS, RESULTS)):
        for home, result in results.items():
            yield [start, home, *ENERGY[home][1][number], 0, 0, *result, result[2] + result[5]]


def postings():
    for number, (start, height) in enumerate(zip(STARTS, HEIGHTS)):
        for home, result in RESULTS[number].items():
            for kind, amount in (("local", result[2]), ("supplier", result[5])):
                if amount:
                    yield [height, start, f"home:{home}", kind, amount]
        yield [height, start, "network", "fee", FEES[number]]
        yield [height, start, "supplier", "supplier", SUPPLIER[number]]


def accounts(postings, openings):
    closing = dict(openings)
    for _, _, account, _, amount in postings:
        closing[account] += amount
    return [[name, opening, closing[name]] for name, opening in openings.items()]


def files(network, tariff, readings, settlements, postings, openings):
    postings = list(postings)
    return {
        "network.json": json.dumps(network),
        "tariff.json": json.dumps(tariff),
        "readings.csv": csv_text(recompute.READINGS, readings),
        "settlements.csv": csv_text(recompute.SETTLEMENTS, settlements),
        "postings.csv": csv_text(recompute.POSTINGS, postings),
        "accounts.csv": csv_text(recompute.ACCOUNTS, accounts(postings, openings)),
    }


def sound():
    openings = {f"home:{home}": 1_000_000_000 for home in ENERGY}
    openings |= {"supplier": 0, "network": 0, "congestion": 0, "deposits": -3_000_000_000}
    return files(NETWORK, TARIFF, readings(), settlements(), postings(), openings)


def check(export, intervals=None):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in export.items():
            (pathlib.Path(folder) / name).write_text(text, encoding="utf-8")
        return recompute.recompute(folder, intervals)


def rows_of(text):
    header, *rows = csv.reader(io.StringIO(text))
    return ",".join(header), rows


class SoundExport(unittest.TestCase):
    def test_amounts_worked_out_by_hand_are_confirmed(self):
        summary = check(sound(), intervals=4)
        self.assertEqual(summary["mismatches"], [])
        self.assertTrue(recompute.passed(summary))
        self.assertEqual((summary["intervals"], summary["homes"], summary["matched_wh"]), (4, 3, 1047))
        self.assertEqual(summary["saved_n"], 223_870_000)
        self.assertEqual(summary["supplier_leg"], "ledger")

    def test_too_few_intervals_are_found(self):
        self.assertFalse(recompute.passed(check(sound(), intervals=96)))

    def test_nothing_at_all_is_not_a_pass(self):
        empty = {name: text.splitlines()[0] + "\n" for name, text in sound().items()}
        empty |= {name: sound()[name] for name in ("network.json", "tariff.json", "accounts.csv")}
        self.assertFalse(recompute.passed(check(empty)))
        self.assertFalse(recompute.passed(check({})))

    def test_a_missing_baseline_is_counted(self):
        export = sound()
        header, rows = rows_of(export["readings.csv"])
        export["readings.csv"] = csv_text(header, rows[1:])
        summary = check(export)
        self.assertTrue(recompute.passed(summary))
        self.assertEqual(summary["homes_without_baseline"], 1)


class SpoiltExport(unittest.TestCase):
    """One change to a sound export, always the smallest, must be found."""

    def spoil(self, name, text, what):
        self.assertFalse(recompute.passed(check(sound() | {name: text})), f"{name}: {what} was not found")
        self.spoilt += 1

    def setUp(self):
        self.spoilt = 0

    def test_every_number_in_every_table_matters_to_the_last_unit(self):
        for name in ("readings.csv", "settlements.csv", "postings.csv", "accounts.csv"):
            header, rows = rows_of(sound()[name])
            for line, row in enumerate(rows):
                for column, cell in enumerate(row):
                    # At the same height or not, a block's postings still belong together: heights have their own test.
                    if not cell.lstrip("-").isdigit() or header.split(",")[column] == "height":
                        continue
                    for change in (1, -1):
                        changed = [list(row) for row in rows]
                        changed[line][column] = str(int(cell) + change)
                        self.spoil(name, csv_text(header, changed), f"{row} column {column} {change:+}")
        self.assertGreater(self.spoilt, 400)

    def test_every_row_is_needed_and_only_once(self):
        for name in ("readings.csv", "settlements.csv", "postings.csv", "accounts.csv"):
            header, rows = rows_of(sound()[name])
            for line, row in enumerate(rows):
                self.spoil(name, csv_text(header, [*rows, row]), f"{row} twice")
                # Without its baseline a home's first reading stands alone, and congestion may be absent while it is 0.
                if row[0] not in (BEFORE, "congestion"):
                    self.spoil(name, csv_text(header, rows[:line] + rows[line + 1 :]), f"{row} left out")
        self.assertGreater(self.spoilt, 100)

    def test_every_fee_price_and_place_matters(self):
        for node in range(1, len(NETWORK["nodes"])):
            for kind in ("fee_up", "fee_down"):
                network = json.loads(json.dumps(NETWORK))
                network["nodes"][node][kind] += 1
                self.spoil("network.json", json.dumps(network), f"{kind} of {network['nodes'][node]['id']}")
        for home in range(len(NETWORK["homes"])):
            network = json.loads(json.dumps(NETWORK))
            network["homes"][home]["node"] = "t"
            self.spoil("network.json", json.dumps(network), f"node of {network['homes'][home]['id']}")
        for interval in range(len(STARTS)):
            for kind in ("import_price", "export_price"):
                tariff = json.loads(json.dumps(TARIFF))
                # By 2: the middle of the prices is floored.
                tariff["intervals"][interval][kind] += 2
                self.spoil("tariff.json", json.dumps(tariff), f"{kind} of {STARTS[interval]}")

    def test_kinds_accounts_and_heights_matter(self):
        text = sound()["postings.csv"]
        for before, after in (
            ("home:a1,local", "home:a1,supplier"),
            ("home:a1,local", "home:a2,local"),
            ("network,fee", "supplier,fee"),
            ("home:a2,local", "home:zz,local"),
            ("home:a2,local", "home:a2,gift"),
            ("home:a2,local", "home:a2,deposit"),
            ("\n5,", "\n4,"),
            ("\n15,", "\n3,"),
            (f"{STARTS[1]},home:a1", f"{STARTS[2]},home:a1"),
        ):
            self.assertIn(before, text)
            self.spoil("postings.csv", text.replace(before, after, 1), f"{before} -> {after}")

    def test_an_outside_supplier_leg_cannot_be_claimed_by_leaving_postings_out(self):
        header, rows = rows_of(sound()["postings.csv"])
        kept = [row for row in rows if row[3] != "supplier"]
        self.spoil("postings.csv", csv_text(header, kept), "all supplier postings left out")


def small(readings, settlements, postings, openings, homes=("p",)):
    """Homes at one node with 50 000 fees above them; two intervals."""
    network = {
        "nodes": [{"id": "grid", "parent": None}, {"id": "n", "parent": "grid", "fee_up": 0, "fee_down": 50_000}],
        "homes": [{"id": home, "node": "n"} for home in homes],
    }
    tariff = TARIFF | {"intervals": TARIFF["intervals"][:2]}
    openings = openings | {"supplier": 0, "network": 0}
    openings["deposits"] = -sum(openings.values())
    return files(network, tariff, readings, settlements, postings, openings)


class UnusualReadings(unittest.TestCase):
    def test_a_lump_is_spread_with_the_odd_watt_hour_to_the_earliest(self):
        export = small(
            readings=[[BEFORE, "p", 10, 0, "", ""], [STARTS[1], "p", 15, 0, 5, 0]],
            settlements=[
                [STARTS[0], "p", 3, 0, 0, 0, 0, 0, 0, 3, 0, -900_000, -900_000],
                [STARTS[1], "p", 2, 0, 0, 0, 0, 0, 0, 2, 0, -600_000, -600_000],
            ],
            postings=[
                [4, STARTS[0], "home:p", "supplier", -900_000],
                [4, STARTS[0], "network", "fee", 150_000],
                [4, STARTS[0], "supplier", "supplier", 750_000],
                [4, STARTS[1], "home:p", "supplier", -600_000],
                [4, STARTS[1], "network", "fee", 100_000],
                [4, STARTS[1], "supplier", "supplier", 500_000],
            ],
            openings={"home:p": 10_000_000},
        )
        summary = check(export)
        self.assertEqual(summary["mismatches"], [])
        self.assertEqual(summary["lumps"], 1)
        other = export["settlements.csv"].replace(f"{STARTS[0]},p,3,", f"{STARTS[0]},p,2,")
        self.assertFalse(recompute.passed(check(export | {"settlements.csv": other})))

    def test_a_late_reading_settles_with_the_supplier_alone(self):
        def export(late):
            return small(
                readings=[[BEFORE, "p", 10, 0, "", ""], [STARTS[1], "p", 15, 0, 5, 0]],
                settlements=[
                    [STARTS[0], "p", "", "", 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    [STARTS[1], "p", 2, 0, 0, 0, 0, 0, 0, 2, 0, -600_000, -600_000],
                ],
                postings=[
                    [6, STARTS[0], "home:p", "late", -late],
                    [6, STARTS[0], "network", "fee", 150_000],
                    [6, STARTS[0], "supplier", "late", late - 150_000],
                    [7, STARTS[1], "home:p", "supplier", -600_000],
                    [7, STARTS[1], "network", "fee", 100_000],
                    [7, STARTS[1], "supplier", "supplier", 500_000],
                ],
                openings={"home:p": 10_000_000},
            )

        summary = check(export(900_000))
        self.assertEqual(summary["mismatches"], [])
        self.assertEqual((summary["late"], summary["settled_without_reading"]), (1, 1))
        self.assertFalse(recompute.passed(check(export(900_001))))

    def test_a_falling_register_is_found(self):
        export = sound()
        export["readings.csv"] = export["readings.csv"].replace("a2,2405,0,5,0", "a2,2300,0,-105,0")
        found = {entry["what"] for entry in check(export)["mismatches"]}
        self.assertIn("import register never falls", found)


class EmptyPurse(unittest.TestCase):
    # p can pay 3 Wh at 165 000 + 50 000 out of 660 000; of its supplier's 2 100 000 it can pay the 165 000 left.
    def export(self, bought=3):
        local, paid = 165_000 * bought, 660_000 - 165_000 * bought
        given = 80_000 * (10 - bought)
        owed, fees = 300_000 * (10 - bought), 50_000 * (10 - bought)
        return small(
            homes=("p", "s"),
            readings=[
                [BEFORE, "p", 10, 0, "", ""],
                [BEFORE, "s", 20, 5, "", ""],
                [STARTS[0], "p", 20, 0, 10, 0],
                [STARTS[0], "s", 20, 15, 0, 10],
            ],
            settlements=[
                [STARTS[0], "p", 10, 0, 0, 0, 0, bought, -local, 10 - bought, 0, -owed, -local - owed],
                [STARTS[0], "s", 0, 10, 0, 0, bought, 0, local, 0, 10 - bought, given, local + given],
            ],
            postings=[
                [4, STARTS[0], "home:p", "local", -local],
                [4, STARTS[0], "home:p", "supplier", -paid],
                [4, STARTS[0], "home:s", "local", local],
                [4, STARTS[0], "home:s", "supplier", given],
                [4, STARTS[0], "network", "fee", fees],
                [4, STARTS[0], "supplier", "supplier", paid - given - fees],
            ],
            openings={"home:p": 660_000, "home:s": 0},
        )

    def test_a_home_buys_and_pays_only_what_it_can(self):
        summary = check(self.export())
        self.assertEqual(summary["mismatches"], [])
        self.assertEqual(summary["claims"], 1)

    def test_buying_more_or_less_than_the_purse_allows_is_found(self):
        for bought in (2, 4):
            self.assertFalse(recompute.passed(check(self.export(bought))), bought)


class MatchingCases(unittest.TestCase):
    def test_every_case_of_the_market_is_matched_exactly(self):
        paths = sorted(CASES.glob("*.json"))
        self.assertGreaterEqual(len(paths), 40, f"the cases of neighbour matching are missing in {CASES}")
        for path in paths:
            vector = json.loads(path.read_text(encoding="utf-8"))
            with self.subTest(path.name):
                self.assertEqual(solve(vector["case"]), vector["expected"])


def solve(case):
    network, grid = recompute.Network(case["nodes"]), case["grid"]
    homes = [
        recompute.Home(home, home["import_wh"], home["export_wh"], grid, network, home.get("buy_cap_wh"))
        for home in case["homes"]
    ]
    matched = recompute.match(network, grid, homes)
    fees = sum(home.supplier_fees() for home in homes)
    return {
        "homes": [
            {
                "id": home.id,
                "sold_wh": home.sold,
                "bought_wh": home.bought,
                "local_amount": home.local,
                "supplier_import_wh": home.deficit,
                "supplier_export_wh": home.surplus,
                "supplier_amount": home.supplier_amount(),
                "amount": home.local + home.supplier_amount(),
            }
            for home in homes
        ],
        "matched": matched,
        "fees": fees + sum(home.fees for home in homes),
        "supplier": {
            "import_wh": sum(home.deficit for home in homes),
            "export_wh": sum(home.surplus for home in homes),
            "amount": -fees - sum(home.supplier_amount() for home in homes),
        },
    }


if __name__ == "__main__":
    unittest.main()
