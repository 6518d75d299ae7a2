#!/usr/bin/env python3
"""Proves that recompute_bill.py finds what is wrong: two small bills worked out by hand, then spoilt one by one."""

import copy
import io
import pathlib
import sys
import tempfile
import unittest
import csv

# Keeps the source folder as it is.
sys.dont_write_bytecode = True
import recompute_bill  # noqa: E402

CENT = 10_000_000


def row(section, item="", **fields):
    return {name: str(fields.get(name, "")) for name in recompute_bill.HEADER} | {"section": section, "item": item}


def about(month, leg="ledger"):
    facts = {
        "community": "Lane", "chain": "00", "currency": "EUR", "zone": "Europe/Berlin", "supplier-leg": leg, "home": "h1",
        "node": "f1", "month": month, "days": f"{month}-01/{month}-30", "state": "final", "recipient": "Li", "role": "contract-holder",
    }
    return [row("bill", item, text=text) for item, text in facts.items()]


def interval(month, day, items, metered):
    times = {"interval_start": f"{month}-{day:02}T10:00:00Z", "local_start": f"{month}-{day:02}T12:00:00+02:00", "kind": "settled", "block": day}
    for item, part, wh, price, amount in items:
        yield row("item", item, part=part, quantity=wh, price=price, amount_n=amount, unit="Wh", **times)
    for item, part, wh in metered:
        yield row("metered", item, part=part, quantity=wh, unit="Wh", **times)


def bill(month, carried_in, opening, owed_before):
    """A bill whose every figure was worked out by hand."""
    rows = about(month)
    rows += interval(month, 1, [
        ("bought", "community", 200, 165_000, 33_000_000), ("bought-fees", "community", 200, "", 1_500_000),
        ("grid-import", "grid", 100, 250_000, 25_000_000), ("grid-import-fees", "grid", 100, 50_000, 5_000_000),
    ], [("import", "community", 200), ("import", "grid", 100)])
    rows += interval(month, 20, [("sold", "community", 40, -165_000, -6_600_000)], [("export", "community", 40)])
    # A levy on the first half of the month only; 1.00 a month for three of its days; 19 % of what was charged before.
    days = 30 if month.endswith("06") else 31
    fixed = sum(1_000_000_000 * day // days - 1_000_000_000 * (day - 1) // days for day in (1, 2, 3))
    rows += [
        row("line", "total-import", part="community", quantity=200, unit="Wh", price=10, amount_n=2_000, text="levy", to="x", local_start=f"/{month}-15"),
        row("line", "total-import", part="grid", quantity=100, unit="Wh", price=10, amount_n=1_000, text="levy", to="x", local_start=f"/{month}-15"),
        row("line", "month", part="grid", quantity=3, unit="days", price=1_000_000_000, amount_n=fixed, text="meter", to="y", local_start=f"{month}-01/{month}-03"),
    ]
    base = {"community": 34_500_000 + 2_000, "grid": 30_000_000 + 1_000 + fixed}
    tax = {part: -(-amount * 19 // 1000) for part, amount in base.items()}
    rows += [row("line", "subtotal", part=part, quantity=base[part], unit="n", price=19, amount_n=tax[part], text="tax", to="z", local_start="/") for part in base]
    energy = {"community": 34_500_000 - 6_600_000, "grid": 30_000_000}
    lines = {"community": 2_000 + tax["community"], "grid": 1_000 + fixed + tax["grid"]}
    for item, sums in (("energy", energy), ("lines", lines), ("all", {part: energy[part] + lines[part] for part in energy})):
        for part, amount in (sums | {"total": sum(sums.values())}).items():
            rows.append(row("total", item, part=part, amount_n=amount))
    settled = sum(energy.values())
    exact = sum(lines.values()) - carried_in
    due = -(-exact // CENT) * CENT
    for item, amount in (("energy", settled), ("lines", sum(lines.values())), ("settled", settled), ("carried-in", carried_in),
                         ("exact", exact), ("due", due), ("carried-out", due - exact)):
        rows.append(row("due", item, amount_n=amount))
    # 5 000 000 of the supplier's part could not be paid; 1 000 000 of what was owed before was.
    account = [("opening", opening), ("local", -27_900_000), ("supplier", -25_000_000), ("deposit", 90_000_000), ("claims-paid", -1_000_000)]
    closing = sum(amount for _, amount in account)
    account += [("held", 0), ("received", 0), ("closing", closing), ("owed-before", -owed_before), ("owed-after", -owed_before - 4_000_000),
                ("credited-before", 0), ("credited-after", 0)]
    rows += [row("account", item, amount_n=amount) for item, amount in account]
    for it in rows:
        it["bill"] = f"h1-{month}-1"
    return rows, due - exact, closing, owed_before + 4_000_000


def two_bills():
    june, carried, closing, owed = bill("2026-06", 0, 0, 3_000_000)
    july, *_ = bill("2026-07", carried, closing, owed)
    return june, july


def text(rows):
    out = io.StringIO()
    writer = csv.DictWriter(out, recompute_bill.HEADER, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def check(*bills):
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for at, rows in enumerate(bills):
            path = pathlib.Path(folder) / f"{at}.csv"
            path.write_text(text(rows))
            found += recompute_bill.read(path)
        return recompute_bill.check(found)


class Bills(unittest.TestCase):
    def test_bills_worked_out_by_hand_hold(self):
        checker = check(*two_bills())
        self.assertEqual(checker.mismatches, [])
        for kind in ("item", "metered", "line", "total", "due", "account", "chain", "once"):
            self.assertGreater(checker.checked[kind], 0, kind)

    def test_every_single_figure_is_checked(self):
        june, july = two_bills()
        for bills, which in ((june, 0), (july, 1)):
            for at, it in enumerate(bills):
                for field in ("quantity", "price", "amount_n"):
                    if not it[field]:
                        continue
                    spoilt = copy.deepcopy([june, july])
                    # A month's charge is floored by days: 1 more in its rate may change nothing.
                    spoilt[which][at][field] = str(int(it[field]) + (1000 if field == "price" else 1))
                    if it["section"] == "item" and it["item"] == "bought-fees" and field == "quantity":
                        continue  # a fee over several distances has no price to hold its energy against
                    if it["item"].startswith("credited"):
                        continue  # what the supplier owes is not on the home's side of the account
                    self.assertNotEqual(check(*spoilt).mismatches, [], f"{it['section']} {it['item']} {field}")

    def test_a_row_that_is_missing_or_there_twice_is_found(self):
        june, july = two_bills()
        for at, it in enumerate(june):
            if it["section"] in ("item", "metered", "line"):
                self.assertNotEqual(check(june[:at] + june[at + 1:], july).mismatches, [], f"without {it['item']}")
                if it["section"] != "line":
                    self.assertNotEqual(check(june[:at] + [it] + june[at:], july).mismatches, [], f"twice {it['item']}")

    def test_a_bill_that_does_not_follow_the_one_before_is_found(self):
        june, _ = two_bills()
        july, *_ = bill("2026-07", 0, 0, 0)
        self.assertEqual(check(july).mismatches, [], "by itself it holds")
        kinds = " ".join(check(june, july).mismatches)
        for kind in ("chain carried-in", "chain opening", "chain owed-before"):
            self.assertIn(kind, kinds)

    def test_the_same_interval_on_two_bills_is_found(self):
        june, july = two_bills()
        for it in july:
            if it["interval_start"]:
                it["interval_start"] = it["interval_start"].replace("2026-07", "2026-06")
        self.assertTrue(any("stands on 2 bills" in it for it in check(june, july).mismatches))

    def test_another_table_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "other.csv"
            path.write_text("a,b\n1,2\n")
            with self.assertRaises(SystemExit):
                recompute_bill.read(path)


if __name__ == "__main__":
    unittest.main()
