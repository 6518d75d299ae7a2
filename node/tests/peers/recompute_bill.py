#!/usr/bin/env python3
"""Recomputes every amount and total of bills made by `commonwatt bill --format csv`, to the n.

    recompute_bill.py BILL.csv [BILL.csv ...] [--ledger EXPORT_DIR]

Written from docs/bills.md, not from the program, and only with Python's standard library. The files are bills of one or more
months of the same homes, in any order; where months follow one another, what one carries out the next must carry in.
With --ledger the intervals are compared with an export of the ledger (`commonwatt demo --export DIR`): energy, prices, network
fees. Prints one JSON object and exits 0 only if something was checked and nothing differs.

What is checked:
  items     quantity x price = amount, in every interval; each kind in its column; an item without a price has fees of
            several distances, or energy both ways, or a correction of both registers
  metered   what the meter showed is what the items say, where nothing was traded forward or corrected
  lines     each quantity from the intervals, each amount from its rate; subtotals in their order, per mille rounded up;
            a month's charge by its days
  totals    per column; community + grid = total
  due       energy + lines - settled - carried in; rounded up to cents; the rest carried out
  incentive what is due from outside is the sum of its intervals, and in no other sum
  credit    what of it is used is what stands below zero
  account   opening + movements = closing; what energy moved is what the intervals came to, less what became a claim
"""

import argparse
import calendar
import collections
import csv
import datetime
import json
import pathlib
import sys

HEADER = (
    "bill,section,item,part,interval_start,local_start,kind,block,quantity,unit,price,amount_n,text,to"
).split(",")
PARTS = {
    "bought-forward": "community", "bought": "community", "bought-fees": "community", "sold-forward": "community",
    "sold": "community", "sold-fees": "community", "other": "community", "grid-import": "grid",
    "grid-import-fees": "grid", "corrected-import": "grid", "grid-export": "grid", "grid-export-fees": "grid",
    "corrected-export": "grid", "losses": "grid",
}
EXPORTS = {"sold-forward", "sold", "sold-fees", "grid-export", "grid-export-fees", "corrected-export"}
WITHOUT_PRICE = {
    "bought-forward", "bought-fees", "sold-forward", "sold-fees", "grid-import-fees", "corrected-import",
    "corrected-export", "losses", "other",
}
NOT_ENERGY = {
    "opening", "closing", "deposit", "withdrawal", "claims-paid", "held", "received", "owed-before", "owed-after",
    "credited-before", "credited-after",
}
FIRST_MISMATCHES = 20


def cent(currency):
    """The smallest amount that can be paid, n."""
    return {"JPY": 10**9, "KRW": 10**9, "KWD": 10**6, "BHD": 10**6}.get(currency, 10**7)


class Bill:
    """The rows of one bill."""

    def __init__(self, number, rows):
        self.number, self.rows = number, rows
        self.about = {row["item"]: row["text"] for row in rows if row["section"] == "bill"}
        self.outside = self.about["supplier-leg"] == "outside"

    def of(self, section):
        return [row for row in self.rows if row["section"] == section]

    def amount(self, section, item, part=""):
        found = [row for row in self.of(section) if row["item"] == item and row["part"] == part]
        return int(found[0]["amount_n"]) if found else None


class Checker:
    def __init__(self):
        self.checked = collections.Counter()
        self.mismatches = []

    def same(self, bill, what, found, expected):
        self.checked[what.split(" ")[0]] += 1
        if found != expected:
            self.mismatches.append(f"{bill.number}: {what}: {found}, recomputed {expected}")

    # ------------------------------------------------------------ intervals

    def items(self, bill):
        for row in bill.of("item"):
            what = f"item {row['item']} of {row['interval_start']}"
            self.same(bill, what + " part", row["part"], PARTS[row["item"]])
            if row["price"]:
                self.same(bill, what, int(row["amount_n"]), int(row["quantity"]) * int(row["price"]))
            else:
                self.same(bill, what + " may have no price", row["item"] in WITHOUT_PRICE, True)
            if row["item"].endswith("-fees"):
                self.same(bill, what + " is not below zero", int(row["amount_n"]) >= 0, True)

    def metered(self, bill):
        """What was taken is what neighbours and supplier gave, interval by interval."""
        metered, traded, strange = collections.Counter(), collections.Counter(), set()
        for row in bill.of("metered"):
            key = (row["interval_start"], row["kind"], row["block"])
            metered[key, row["item"], row["part"]] += int(row["quantity"])
        for row in bill.of("item"):
            key = (row["interval_start"], row["kind"], row["block"])
            if "forward" in row["item"] or row["kind"] == "correction":
                strange.add(key)
            if row["item"] in ("bought", "grid-import", "sold", "grid-export"):
                direction = "export" if row["item"] in EXPORTS else "import"
                traded[key, direction, row["part"]] += int(row["quantity"])
        for key in sorted(set(metered) | set(traded)):
            if key[0] not in strange:
                self.same(bill, f"metered {key}", metered[key], traded[key])

    # ------------------------------------------------------------ configured lines

    def lines(self, bill):
        subtotal = collections.Counter()
        for row in bill.of("item"):
            if row["item"] not in EXPORTS:
                subtotal[row["part"]] += int(row["amount_n"])
        if bill.outside:
            subtotal["grid"] = 0
        for group in grouped_lines(bill.of("line")):
            added = collections.Counter()
            for row in group:
                expected = self.line(bill, row, subtotal)
                self.same(bill, f"line {row['text']} {row['part']}", int(row["amount_n"]), expected)
                added[row["part"]] += int(row["amount_n"])
            subtotal.update(added)

    def line(self, bill, row, subtotal):
        quantity, rate, basis = int(row["quantity"]), int(row["price"]), row["item"]
        if basis == "subtotal":
            self.same(bill, f"line {row['text']} subtotal", quantity, subtotal[row["part"]])
            return -(-quantity * rate // 1000)
        if basis in ("month", "day"):
            days = [day for run in row["local_start"].split() for day in days_of(run)]
            self.same(bill, f"line {row['text']} days", quantity, len(days))
            return sum(of_day(rate, day) for day in days) if basis == "month" else rate * len(days)
        direction, (first, last) = ("export" if basis == "export" else "import"), row["local_start"].split("/")
        energy = sum(
            int(it["quantity"])
            for it in bill.of("metered")
            if it["item"] == direction and it["part"] == row["part"] and first <= it["local_start"][:10]
            and (not last or it["local_start"][:10] <= last)
        )
        self.same(bill, f"line {row['text']} energy", quantity, energy)
        return quantity * rate

    # ------------------------------------------------------------ sums

    def totals(self, bill):
        sums = collections.Counter()
        for section, item in (("item", "energy"), ("line", "lines")):
            for row in bill.of(section):
                sums[item, row["part"]] += int(row["amount_n"])
                sums["all", row["part"]] += int(row["amount_n"])
        for item in ("energy", "lines", "all"):
            sums[item, "total"] = sums[item, "community"] + sums[item, "grid"]
            for part in ("community", "grid", "total"):
                self.same(bill, f"total {item} {part}", bill.amount("total", item, part), sums[item, part])
        return sums

    def incentive(self, bill):
        """What is due from outside: the sum of its intervals, and in no other sum."""
        rows = bill.of("incentive")
        intervals = sum(int(row["amount_n"]) for row in rows if row["item"] == "interval")
        if rows:
            self.same(bill, "incentive all", bill.amount("incentive", "all"), intervals)

    def due(self, bill, sums):
        part = "community" if bill.outside else "total"
        due = {row["item"]: int(row["amount_n"]) for row in bill.of("due")}
        self.same(bill, "due energy", due["energy"], sums["energy", part])
        self.same(bill, "due lines", due["lines"], sums["lines", part])
        exact = due["energy"] + due["lines"] - due["settled"] - due["carried-in"]
        self.same(bill, "due exact", due["exact"], exact)
        unit = cent(bill.about["currency"])
        self.same(bill, "due rounded", due["due"], -(-exact // unit) * unit)
        self.same(bill, "due carried-out", due["carried-out"], due["due"] - exact)
        self.same(bill, "due carry is less than a cent", 0 <= due["carried-out"] < unit, True)

    def account(self, bill):
        rows = bill.of("account")
        if not rows:
            return
        moves = sum(int(row["amount_n"]) for row in rows if row["item"] not in ("opening", "closing")
                    and not row["item"].endswith(("-before", "-after")))
        opening = bill.amount("account", "opening")
        self.same(bill, "account closing", bill.amount("account", "closing"), opening + moves)
        energy = sum(int(row["amount_n"]) for row in rows if row["item"] not in NOT_ENERGY)
        owed = bill.amount("account", "owed-after") - bill.amount("account", "owed-before")
        # What the home owed grew by what it could not pay, and fell by what it paid of it.
        claimed = -owed - bill.amount("account", "claims-paid")
        credit = {row["item"]: int(row["amount_n"]) for row in bill.of("credit")}
        if credit:
            self.same(bill, "credit used", credit["used"], max(0, -bill.amount("account", "closing")))
            self.same(bill, "credit is not exceeded", credit["used"] <= credit["limit"], True)
        # Who pays by statement has settled nothing before the bill.
        if not bill.outside and bill.about.get("money") != "statement":
            self.same(bill, "account energy", energy, claimed - bill.amount("due", "settled"))

    # ------------------------------------------------------------ between bills, and with the ledger

    def chain(self, bills):
        """What one month carries out the next carries in; whose account it is, it goes on from where it stood."""
        series = collections.defaultdict(dict)
        for bill in bills:
            key = (bill.about["home"], bill.about["recipient"], bill.about["role"])
            series[key][bill.about["month"]] = bill
        for months in series.values():
            for month, bill in months.items():
                following = months.get(next_month(month))
                if following is None:
                    continue
                carried = bill.amount("due", "carried-out")
                self.same(following, "chain carried-in", following.amount("due", "carried-in"), carried)
                if bill.of("account"):
                    for before, after in (("opening", "closing"), ("owed-before", "owed-after")):
                        found = following.amount("account", before)
                        self.same(following, f"chain {before}", found, bill.amount("account", after))

    def once(self, bills):
        """No interval's outcome stands on two bills of one side."""
        seen = collections.Counter()
        for bill in bills:
            for row in bill.of("item"):
                seen[bill.about["home"], row["interval_start"], row["kind"], row["block"], row["item"]] += 1
        for key, count in seen.items():
            if key[2] != "correction":
                self.checked["once"] += 1
                if count > 1:
                    self.mismatches.append(f"{key} stands on {count} bills")

    def ledger(self, bills, folder):
        tariff, rows, paths = load(folder)
        for bill in bills:
            home, seen = bill.about["home"], collections.defaultdict(dict)
            for row in bill.of("item"):
                if row["kind"] == "settled":
                    seen[row["interval_start"]][row["item"]] = row
            for start, items in seen.items():
                row = rows.get((start, home))
                if row is not None:
                    self.compare(bill, start, items, row, tariff[start], paths[home])

    def compare(self, bill, start, items, row, prices, fees):
        middle = (prices["import_price"] + prices["export_price"]) // 2
        expected = {
            "bought": (int(row["bought_wh"]), middle),
            "sold": (int(row["sold_wh"]), -middle),
            "grid-import": (int(row["supplier_import_wh"]), prices["import_price"]),
            "grid-export": (int(row["supplier_export_wh"]), -prices["export_price"]),
            "grid-import-fees": (int(row["supplier_import_wh"]), fees[0]),
            "grid-export-fees": (int(row["supplier_export_wh"]), fees[1]),
        }
        for item, (wh, price) in expected.items():
            found = items.get(item)
            amount = int(found["amount_n"]) if found else 0
            self.same(bill, f"ledger {item} of {start}", amount, wh * price)
        charge = sum(int(it["amount_n"]) for it in items.values())
        self.same(bill, f"ledger amount of {start}", -charge, int(row["amount_n"]))


def grouped_lines(rows):
    """Rows of one line (its two columns) together, in order."""
    groups = []
    for row in rows:
        same = groups and all(groups[-1][0][name] == row[name] for name in ("text", "item", "price", "to"))
        if same and groups[-1][-1]["part"] == "community" and row["part"] == "grid":
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def days_of(run):
    first, last = (datetime.date.fromisoformat(day) for day in run.split("/"))
    return [first + datetime.timedelta(days=at) for at in range((last - first).days + 1)]


def of_day(rate, day):
    days = calendar.monthrange(day.year, day.month)[1]
    return rate * day.day // days - rate * (day.day - 1) // days


def next_month(month):
    year, number = (int(part) for part in month.split("-"))
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def load(folder):
    folder = pathlib.Path(folder)
    tariff = json.loads((folder / "tariff.json").read_text())
    network = json.loads((folder / "network.json").read_text())
    with open(folder / "settlements.csv", newline="") as file:
        rows = {(row["interval_start"], row["home"]): row for row in csv.DictReader(file)}
    nodes = {node["id"]: node for node in network["nodes"]}

    def to_root(name, kind):
        node = nodes[name]
        return 0 if node["parent"] is None else node[kind] + to_root(node["parent"], kind)

    paths = {home["id"]: (to_root(home["node"], "fee_down"), to_root(home["node"], "fee_up")) for home in network["homes"]}
    return {it["start"]: it for it in tariff["intervals"]}, rows, paths


def read(path):
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != HEADER:
            raise SystemExit(f"{path} is no table of bills: its columns are {reader.fieldnames}")
        bills = collections.defaultdict(list)
        for row in reader:
            bills[row["bill"]].append(row)
    return [Bill(number, rows) for number, rows in bills.items()]


def check(bills, ledger=None):
    checker = Checker()
    for bill in bills:
        checker.items(bill)
        checker.metered(bill)
        checker.lines(bill)
        checker.due(bill, checker.totals(bill))
        checker.account(bill)
        checker.incentive(bill)
    checker.chain(bills)
    checker.once(bills)
    if ledger:
        checker.ledger(bills, ledger)
    return checker


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bills", nargs="+")
    parser.add_argument("--ledger", metavar="EXPORT_DIR")
    arguments = parser.parse_args()
    bills = [bill for path in arguments.bills for bill in read(path)]
    checker = check(bills, arguments.ledger)
    ok = not checker.mismatches and checker.checked["item"] > 0
    print(json.dumps({
        "ok": ok,
        "bills": len(bills),
        "checked": sum(checker.checked.values()),
        "by_kind": dict(sorted(checker.checked.items())),
        "mismatches": len(checker.mismatches),
        "first": checker.mismatches[:FIRST_MISMATCHES],
    }, indent=1))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
