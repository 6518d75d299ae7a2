#!/usr/bin/env python3
"""Recomputes every price and amount of an export of `commonwatt demo --export DIR`, to the n.

    recompute.py EXPORT_DIR [--intervals N]

Written from the market's rules, not from the program, and only with Python's standard library. Prints one JSON object
and exits 0 only if something was checked and nothing differs. With --intervals exactly N intervals must be settled.

What is checked:
  readings     every register is the one before plus the energy; a reading after missing ones is spread over them
               equally, odd Wh to the earliest
  settlements  every home in every interval; energy as metered; neighbour matching, supplier leg and amounts anew;
               nobody worse off than with the supplier alone
  postings     sum to zero per block and interval, and are what the settlements come to
  accounts     opening + postings = closing; all accounts together 0; no home below 0 after any block

Units: energy Wh, price and fee µ/kWh, money n; µ/kWh x Wh = n exactly. Forward amounts are taken as given (an export does
not hold the orders), claims, corrections, deposits and withdrawals as posted; both are counted in the summary.
"""

import argparse
import collections
import csv
import datetime
import json
import pathlib
import re
import sys

READINGS = "interval_start,home,import_register_wh,export_register_wh,import_wh,export_wh"
SETTLEMENTS = (
    "interval_start,home,import_wh,export_wh,forward_wh,forward_amount_n,sold_wh,bought_wh,local_amount_n,"
    "supplier_import_wh,supplier_export_wh,supplier_amount_n,amount_n"
)
POSTINGS = "height,interval_start,account,kind,amount_n"
ACCOUNTS = "account,opening_n,closing_n"
SETTLED_KINDS = {"forward", "local", "supplier", "fee", "rent", "late"}
GIVEN_KINDS = {"correction", "claim", "deposit", "withdrawal"}
FIRST_MISMATCHES = 20


class Unreadable(Exception):
    """The export is not laid out as it must be."""


# ---------------------------------------------------------------- the network and the matching


class Network:
    """A tree of nodes; a fee belongs to the edge from a node to its parent."""

    def __init__(self, nodes):
        self.nodes = {node["id"]: node for node in nodes}
        if len(self.nodes) < len(nodes):
            raise Unreadable("network.json: a node comes twice")
        roots = [node["id"] for node in nodes if node.get("parent") is None]
        if len(roots) != 1:
            raise Unreadable(f"network.json: one root is needed, not {roots}")
        self.paths = {name: self._path(name) for name in self.nodes}

    def _path(self, name):
        """The node and all above it, the root last."""
        path = [name]
        while (parent := self._node(path[-1]).get("parent")) is not None:
            if parent in path:
                raise Unreadable(f"network.json: {parent} is above itself")
            path.append(parent)
        return path

    def _node(self, name):
        if name not in self.nodes:
            raise Unreadable(f"network.json: there is no node {name}")
        return self.nodes[name]

    def leaves_first(self):
        return sorted(self.nodes, key=lambda name: -len(self.paths[name]))

    def fee(self, kind, below, above):
        """The sum of `kind` over the edges from `below` up to `above`."""
        path = self.paths[below]
        return sum(self.nodes[name].get(kind, 0) for name in path[: path.index(above)])

    def fee_to_root(self, kind, name):
        return self.fee(kind, name, self.paths[name][-1])


class Home:
    """One home's part in the matching of one interval."""

    def __init__(self, spec, import_wh, export_wh, grid, network, buy_cap=None):
        self.id, self.node = spec["id"], spec["node"]
        self.surplus, self.deficit = export_wh, import_wh
        self.sold = self.bought = self.local = self.fees = 0
        self.buy_cap = buy_cap
        up, down = (network.fee_to_root(kind, self.node) for kind in ("fee_up", "fee_down"))
        # What its own supplier leaves it for a kWh exported, and takes for one imported, grid fees included.
        self.supplier_pays = spec.get("export_price", grid["export_price"]) - up
        self.supplier_takes = spec.get("import_price", grid["import_price"]) + down
        self.least = max(self.supplier_pays, spec.get("min_sell", self.supplier_pays))
        self.most = min(self.supplier_takes, spec.get("max_buy", self.supplier_takes))
        self.supplier_fee_up, self.supplier_fee_down = up, down

    def wanted(self):
        return self.deficit if self.buy_cap is None else min(self.deficit, self.buy_cap - self.bought)

    def supplier_amount(self):
        return self.surplus * self.supplier_pays - self.deficit * self.supplier_takes

    def supplier_fees(self):
        return self.surplus * self.supplier_fee_up + self.deficit * self.supplier_fee_down


def ration(total, wishes):
    """`total` pro rata over `wishes` [(id, wish)]: floor, then the largest remainder, ties by ascending id."""
    whole = sum(wish for _, wish in wishes)
    if whole <= total:
        return dict(wishes)
    shares = {name: total * wish // whole for name, wish in wishes}
    by_remainder = sorted(wishes, key=lambda entry: (-(total * entry[1] % whole), entry[0].encode()))
    for name, _ in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def match(network, grid, homes):
    """Shares surplus and deficit of `homes`, nearest first, in place. Returns the matched Wh per node."""
    matched = dict.fromkeys(network.nodes, 0)
    if grid["import_price"] < grid["export_price"]:
        return matched
    middle = (grid["import_price"] + grid["export_price"]) // 2
    for node in network.leaves_first():
        below = [home for home in homes if node in network.paths[home.node]]
        receives = {home.id: middle - network.fee("fee_up", home.node, node) for home in below}
        pays = {home.id: middle + network.fee("fee_down", home.node, node) for home in below}
        sells = [(home.id, home.surplus) for home in below if receives[home.id] >= home.least]
        buys = [(home.id, home.wanted()) for home in below if pays[home.id] <= home.most]
        matched[node] = min(sum(wh for _, wh in sells), sum(wh for _, wh in buys))
        sold, bought = ration(matched[node], sells), ration(matched[node], buys)
        for home in below:
            give, take = sold.get(home.id, 0), bought.get(home.id, 0)
            home.sold, home.surplus = home.sold + give, home.surplus - give
            home.bought, home.deficit = home.bought + take, home.deficit - take
            home.local += give * receives[home.id] - take * pays[home.id]
            home.fees += give * (middle - receives[home.id]) + take * (pays[home.id] - middle)
    return matched


def after_forward(import_wh, export_wh, forward_wh):
    """Deficit and surplus that a forward position (export positive) leaves."""
    if forward_wh >= 0:
        return import_wh + max(0, forward_wh - export_wh), max(0, export_wh - forward_wh)
    bought = -forward_wh
    return max(0, import_wh - bought), export_wh + max(0, bought - import_wh)


def spread(energy, parts):
    """`energy` over `parts` intervals, odd Wh to the earliest."""
    each, odd = divmod(energy, parts)
    return [each + (position < odd) for position in range(parts)]


# ---------------------------------------------------------------- reading the export


def integer(text, where):
    if not re.fullmatch(r"-?(0|[1-9][0-9]*)", text):
        raise Unreadable(f"{where}: {text!r} is not a whole number")
    return int(text)


def optional(text, where):
    return None if text == "" else integer(text, where)


def instant(text, where):
    """Seconds since 1970 of an RFC 3339 UTC time."""
    try:
        time = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise Unreadable(f"{where}: {text!r} is not a time such as 2016-06-13T00:15:00Z") from None
    return int(time.replace(tzinfo=datetime.timezone.utc).timestamp())


def show(time):
    return datetime.datetime.fromtimestamp(time, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def table(folder, name, header):
    """The rows of a CSV file whose header must be exactly `header`, each with its place."""
    try:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, csv.Error, UnicodeError) as error:
        raise Unreadable(f"{name}: {error}") from None
    if not rows or rows[0] != header.split(","):
        raise Unreadable(f"{name}: the header must be {header}")
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise Unreadable(f"{name} line {line}: {len(row)} cells, not {len(rows[0])}")
        yield f"{name} line {line}", dict(zip(rows[0], row))


def document(folder, name):
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"), parse_float=no_float)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{name}: {error}") from None


def no_float(text):
    raise ValueError(f"{text} is not a whole number")


def keyed(rows, keys):
    """The rows by (interval, home); `keys` are the columns with whole numbers, empty where there is none."""
    found = {}
    for where, row in rows:
        key = instant(row["interval_start"], where), row["home"]
        if key in found:
            raise Unreadable(f"{where}: {row['interval_start']} {row['home']} comes twice")
        found[key] = {column: optional(row[column], f"{where} {column}") for column in keys}
    return found


class Export:
    """The six files."""

    def __init__(self, folder):
        try:
            self._read(folder)
        except (KeyError, TypeError, AttributeError) as error:
            raise Unreadable(f"network.json or tariff.json lacks or misplaces {error}") from None

    def _read(self, folder):
        network = document(folder, "network.json")
        self.network = Network(network["nodes"])
        self.homes = {home["id"]: home for home in network["homes"]}
        if len(self.homes) < len(network["homes"]):
            raise Unreadable("network.json: a home comes twice")
        for home in self.homes.values():
            if home["node"] not in self.network.nodes:
                raise Unreadable(f"network.json: there is no node {home['node']}")
        tariff = document(folder, "tariff.json")
        self.step = tariff["mtu_minutes"] * 60
        self.currency = tariff["currency"]
        self.tariff = {instant(entry["start"], "tariff.json"): entry for entry in tariff["intervals"]}
        if len(self.tariff) < len(tariff["intervals"]):
            raise Unreadable("tariff.json: an interval comes twice")
        self.readings = keyed(table(folder, "readings.csv", READINGS), READINGS.split(",")[2:])
        self.settlements = keyed(table(folder, "settlements.csv", SETTLEMENTS), SETTLEMENTS.split(",")[2:])
        self.postings = [posting(where, row) for where, row in table(folder, "postings.csv", POSTINGS)]
        self.accounts = {}
        for where, row in table(folder, "accounts.csv", ACCOUNTS):
            if row["account"] in self.accounts:
                raise Unreadable(f"{where}: account {row['account']} comes twice")
            self.accounts[row["account"]] = integer(row["opening_n"], where), integer(row["closing_n"], where)


Posting = collections.namedtuple("Posting", "height interval account kind amount")


def posting(where, row):
    # A deposit or a withdrawal belongs to no interval.
    interval = instant(row["interval_start"], where) if row["interval_start"] else None
    if row["kind"] not in SETTLED_KINDS | GIVEN_KINDS:
        raise Unreadable(f"{where}: {row['kind']!r} is no kind of posting")
    if interval is None and row["kind"] in SETTLED_KINDS:
        raise Unreadable(f"{where}: a posting of kind {row['kind']} needs its interval")
    height = integer(row["height"], where)
    return Posting(height, interval, row["account"], row["kind"], integer(row["amount_n"], where))


# ---------------------------------------------------------------- the check


class Check:
    """Compares, counts, and remembers what differs."""

    def __init__(self, export, intervals=None):
        self.export = export
        self.wanted_intervals = intervals
        self.mismatches = []
        self.checked = collections.Counter()
        self.intervals = sorted({interval for interval, _ in export.settlements})
        self.posted_supplier = any(entry.kind == "supplier" for entry in export.postings)
        self.totals = collections.Counter()
        self.notes = collections.Counter()
        # (interval, home) -> (import, export) by the registers; None where they say nothing.
        self.metered = {}
        # (interval, account, kind of posting) -> amount that must have been posted.
        self.due = collections.Counter()

    def same(self, what, where, stated, computed):
        self.checked[what] += 1
        if stated != computed:
            self.mismatches.append({"what": what, "where": where, "stated": stated, "computed": computed})

    def run(self):
        self.check_presence()
        for home in self.export.homes:
            self.meter(home)
        self.check_stray()
        balances = self.balances_before()
        for interval in self.intervals:
            self.settle(interval, balances[interval])
        self.check_postings()
        self.check_accounts()
        return self.summary()

    # -- what must be there

    def check_presence(self):
        step = self.export.step
        for before, after in zip(self.intervals, self.intervals[1:]):
            self.same("interval follows interval", show(after), after - before, step)
        if self.wanted_intervals is not None:
            self.same("settled intervals", "settlements.csv", len(self.intervals), self.wanted_intervals)
        for interval in self.intervals:
            self.same("interval starts on a whole unit", show(interval), interval % step, 0)
            self.same("tariff", show(interval), interval in self.export.tariff, True)
            for home in self.export.homes:
                present = (interval, home) in self.export.settlements
                self.same("settlement present", place(interval, home), present, True)
        for name in [f"home:{home}" for home in self.export.homes] + ["supplier", "network"]:
            self.same("account present", name, name in self.export.accounts, True)

    def check_stray(self):
        known = set(self.export.homes)
        for source in (self.export.readings, self.export.settlements):
            for interval, home in source:
                self.same("home known", place(interval, home), home in known, True)
        for (interval, home), row in self.export.settlements.items():
            if home in known:
                self.settled_as_metered(interval, home, row)

    # -- registers

    def meter(self, home):
        """Register differences of one home; a jump over missing intervals is spread over them."""
        times = sorted(interval for interval, name in self.export.readings if name == home)
        before = None
        for time in times:
            row = self.export.readings[time, home]
            if None in (row["import_register_wh"], row["export_register_wh"]):
                raise Unreadable(f"readings.csv: {place(time, home)} has no registers")
            if before is None:
                self.first_reading(time, home, row)
            else:
                self.next_reading(before, time, home, row)
            before = time

    def first_reading(self, time, home, row):
        """A baseline. An export that leaves the baseline out starts with the first settled reading instead."""
        settled = self.export.settlements.get((time, home), {}).get("import_wh")
        if settled is not None:
            self.metered[time, home] = row["import_wh"], row["export_wh"]
            self.notes["homes_without_baseline"] += 1
            return
        for side in ("import", "export"):
            self.same("baseline books nothing", place(time, home), row[f"{side}_wh"] or 0, 0)

    def next_reading(self, before, time, home, row):
        parts, beyond = divmod(time - before, self.export.step)
        self.same("reading at a boundary", place(time, home), beyond, 0)
        shares = []
        for side in ("import", "export"):
            register = f"{side}_register_wh"
            energy = row[register] - self.export.readings[before, home][register]
            self.same(f"{side} register never falls", place(time, home), energy >= 0, True)
            shares.append(spread(energy, max(parts, 1)))
            stated = row[f"{side}_wh"]
            # After missing readings the energy stated may be the whole lump or the interval's own share of it.
            own_share = parts > 1 and stated == shares[-1][-1]
            self.same(f"{side} register", place(time, home), stated, stated if own_share else energy)
        self.notes["lumps"] += parts > 1
        for position, energies in enumerate(zip(*shares)):
            self.metered[before + (position + 1) * self.export.step, home] = energies

    def settled_as_metered(self, interval, home, row):
        metered = self.metered.get((interval, home))
        if (row["import_wh"] is None) != (row["export_wh"] is None):
            self.same("energy settled in both directions or none", place(interval, home), False, True)
        elif row["import_wh"] is None:
            self.notes["settled_without_reading"] += 1
        else:
            stated = row["import_wh"], row["export_wh"]
            self.same("energy settled as metered", place(interval, home), stated, metered)

    # -- settlement

    def balances_before(self):
        """Every account just before the first posting of each interval: what matching may be paid with."""
        balances = {name: opening for name, (opening, _) in self.export.accounts.items()}
        before = {}
        for entry in self.export.postings:
            if entry.interval is not None and entry.kind in SETTLED_KINDS:
                before.setdefault(entry.interval, dict(balances))
            balances[entry.account] = balances.get(entry.account, 0) + entry.amount
        # An interval without any posting stands where the next one with some does.
        for interval in reversed(self.intervals):
            balances = before.setdefault(interval, balances)
        return before

    def settle(self, interval, balances):
        """Recomputes one interval for all homes and books what must have been posted."""
        grid = self.export.tariff.get(interval)
        if grid is None:
            return
        rows = {home: self.export.settlements.get((interval, home)) for home in self.export.homes}
        rows = {home: row for home, row in rows.items() if row is not None}
        taking_part = []
        for home, row in rows.items():
            if row["import_wh"] is not None:
                energy = row["import_wh"], row["export_wh"]
                taking_part.append(self.home(home, energy, row, grid, balances))
        match(self.export.network, grid, taking_part)
        results = {home.id: home for home in taking_part}
        for home, row in rows.items():
            self.compare(interval, row, home, results.get(home), grid)
            self.book(interval, row, home, results.get(home), balances)
            if row["import_wh"] is None:
                self.book_late(interval, row, home, grid)

    def home(self, home, energy, row, grid, balances):
        deficit, surplus = after_forward(*energy, row["forward_wh"] or 0)
        result = Home(self.export.homes[home], deficit, surplus, grid, self.export.network)
        highest = (grid["import_price"] + grid["export_price"]) // 2 + result.supplier_fee_down
        if highest > 0:
            free = balances.get(f"home:{home}", 0) + (row["forward_amount_n"] or 0)
            result.buy_cap = max(0, free // highest)
        result.alone = result.supplier_amount()
        return result

    def compare(self, interval, row, home, result, grid):
        forward = row["forward_amount_n"] or 0
        self.notes["forward_positions"] += bool(row["forward_wh"] or forward)
        computed = (0,) * 6 if result is None else (
            result.sold, result.bought, result.local, result.deficit, result.surplus, result.supplier_amount())
        for column, value in zip(SETTLEMENTS.split(",")[6:12], computed):
            self.same(column, place(interval, home), row[column] or 0, value)
        self.same("amount_n", place(interval, home), row["amount_n"], forward + computed[2] + computed[5])
        if result is None:
            return
        stated = (row["local_amount_n"] or 0) + (row["supplier_amount_n"] or 0)
        self.same("not worse off than with the supplier alone", place(interval, home), stated >= result.alone, True)
        self.totals["import_wh"] += row["import_wh"]
        self.totals["export_wh"] += row["export_wh"]
        self.totals["sold_wh"] += row["sold_wh"] or 0
        self.totals["bought_wh"] += row["bought_wh"] or 0
        self.totals["supplier_import_wh"] += result.deficit
        self.totals["supplier_export_wh"] += result.surplus
        self.totals["saved_n"] += stated - result.alone

    def book(self, interval, row, home, result, balances):
        """What must have been posted for one home; the supplier's leg only as far as the home can pay it."""
        forward = row["forward_amount_n"] or 0
        self.due[interval, f"home:{home}", "forward"] += forward
        # What the forward trades do not pay out to members is fees and rent; which is which, the export does not say.
        self.due[interval, "network+congestion", "forward"] -= forward
        if result is None:
            return
        self.due[interval, f"home:{home}", "local"] += result.local
        self.due[interval, "network+congestion", "fee"] += result.fees
        if self.posted_supplier:
            left = balances.get(f"home:{home}", 0) + forward + result.local
            paid = max(result.supplier_amount(), -max(0, left))
            self.notes["claims"] += paid != result.supplier_amount()
            self.book_supplier(interval, home, "supplier", paid, result.supplier_fees())

    def book_late(self, interval, row, home, grid):
        """A reading after its interval was settled without it: metered less position, with the supplier alone."""
        metered = self.metered.get((interval, home))
        if metered is None or not self.posted_supplier:
            return
        deficit, surplus = after_forward(*metered, row["forward_wh"] or 0)
        alone = Home(self.export.homes[home], deficit, surplus, grid, self.export.network)
        self.notes["late"] += 1
        self.book_supplier(interval, home, "late", alone.supplier_amount(), alone.supplier_fees())

    def book_supplier(self, interval, home, kind, amount, fees):
        """The home's leg; the supplier's account stands in for the network's fees."""
        self.due[interval, f"home:{home}", kind] += amount
        self.due[interval, "network+congestion", "fee"] += fees
        self.due[interval, "supplier", "supplier"] -= amount + fees

    # -- postings and accounts

    def check_postings(self):
        sums, zero = collections.Counter(), collections.Counter()
        for entry in self.export.postings:
            zero[entry.height, entry.interval] += entry.amount
            if entry.kind in GIVEN_KINDS:
                self.notes["postings_taken_as_given"] += 1
            else:
                sums[entry.interval, *side(entry.account, entry.kind)] += entry.amount
        for (height, interval), total in zero.items():
            where = f"height {height} {show(interval) if interval is not None else ''}".strip()
            self.same("postings sum to zero", where, total, 0)
        due = collections.Counter()
        for (interval, account, kind), amount in self.due.items():
            due[interval, *side(account, kind)] += amount
        for key in sorted(set(due) | set(sums)):
            self.same("posted", f"{show(key[0])} {key[1]} {key[2]}".strip(), sums[key], due[key])

    def check_accounts(self):
        balances = {name: opening for name, (opening, _) in self.export.accounts.items()}
        height = None
        for entry in self.export.postings:
            if height is not None and entry.height != height:
                self.same("postings in order of height", f"height {entry.height}", entry.height > height, True)
                self.no_home_below_zero(balances, height)
            height = entry.height
            self.same("account known", f"height {height} {entry.account}", entry.account in balances, True)
            balances[entry.account] = balances.get(entry.account, 0) + entry.amount
        self.no_home_below_zero(balances, height)
        for name, (_, closing) in self.export.accounts.items():
            self.same("closing balance", name, closing, balances[name])
        openings = sum(opening for opening, _ in self.export.accounts.values())
        self.same("all openings together", "accounts.csv", openings, 0)

    def no_home_below_zero(self, balances, height):
        for name, balance in balances.items():
            if name.startswith("home:"):
                self.same("home not below zero", f"height {height} {name}", balance >= 0, True)

    def summary(self):
        return {
            "intervals": len(self.intervals),
            "homes": len(self.export.homes),
            "readings": len(self.export.readings),
            "postings": len(self.export.postings),
            "currency": self.export.currency,
            "supplier_leg": "ledger" if self.posted_supplier else "outside",
            "matched_wh": self.totals["sold_wh"],
            **{name: self.totals[name] for name in
               ("import_wh", "export_wh", "supplier_import_wh", "supplier_export_wh", "saved_n")},
            **{name: self.notes[name] for name in
               ("lumps", "late", "claims", "settled_without_reading", "homes_without_baseline", "forward_positions",
                "postings_taken_as_given")},
            "checked": dict(sorted(self.checked.items())),
            "checked_amounts": sum(count for what, count in self.checked.items() if what in AMOUNTS),
            "mismatch_count": len(self.mismatches),
            "mismatches": self.mismatches[:FIRST_MISMATCHES],
        }


AMOUNTS = {"local_amount_n", "supplier_amount_n", "amount_n", "posted", "closing balance"}


def side(account, kind):
    """Account and kind as they are compared: a home's by kind, the community's by account."""
    if account.startswith("home:"):
        return account, kind
    return ("network+congestion" if account in ("network", "congestion", "network+congestion") else account), ""


def place(interval, home):
    return f"{show(interval)} {home}"


def recompute(folder, intervals=None):
    """The summary of one export; an unreadable one counts as a mismatch."""
    try:
        return Check(Export(pathlib.Path(folder)), intervals).run()
    except Unreadable as error:
        found = [{"what": "unreadable", "where": str(error), "stated": None, "computed": None}]
        return {"intervals": 0, "homes": 0, "checked_amounts": 0, "mismatch_count": 1, "mismatches": found}


def passed(summary):
    return summary["mismatch_count"] == 0 and summary["intervals"] > 0 and summary["checked_amounts"] > 0


def main():
    parser = argparse.ArgumentParser(description="recomputes an export of `commonwatt demo --export DIR`")
    parser.add_argument("export_dir")
    parser.add_argument("--intervals", type=int, help="how many intervals must be settled, e.g. 96")
    arguments = parser.parse_args()
    summary = recompute(arguments.export_dir, arguments.intervals)
    print(json.dumps(summary, indent=1))
    sys.exit(0 if passed(summary) else 1)


if __name__ == "__main__":
    main()
