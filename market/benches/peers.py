"""Times the clearing of one auction by other programs beside ours, on the same orders.

    python3 market/benches/peers.py [--orders 1000] [--runs 5] [--gsy DIR] [--lemlab DIR]

Needs a Python with `assume-framework` and `pandas<3` for ASSUME and lemlab; gsy-framework and lemlab are not packaged: give
folders with their checked-out sources (gsy-framework needs pendulum and redis; lemlab tqdm, ruamel.yaml, matplotlib and what its imports ask for). A peer that is not
there is named and left out. Half of the orders buy, half sell, at one node, 0.1 to 3 kWh, 5 to 40 ct/kWh, fixed seed. Only the
clearing is timed, on data already in each program's own form; the median of the runs counts. A peer that needs more than
two minutes for a size is stopped.
"""

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import pathlib
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta

LIMIT_S = 120


def orders(count):
    rng = random.Random(2026)
    return [
        {
            "id": f"o{i:06}",
            "node": "lv",
            "side": "buy" if i % 2 else "sell",
            "price": rng.randrange(50_000, 400_001),
            "qty": rng.randrange(100, 3001),
        }
        for i in range(count)
    ]


def ours(book, runs):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as case:
        json.dump({"orders": book}, case)
        case.flush()
        command = ["cargo", "run", "--release", "-q", "-p", "market", "--example", "time_clearing", "--"]
        out = subprocess.run(command + [case.name, str(runs)], capture_output=True, text=True, check=True)
    result = json.loads(out.stdout)
    return result["ms"], result["sold_wh"]


def median_of(make, clear, runs):
    """`make` builds the peer's input, outside the clock; `clear` returns the sold Wh."""
    times, sold = [], 0
    for _ in range(runs):
        data = make()
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            result = clear(data)
        times.append((time.perf_counter() - start) * 1000)
        sold = result
    return statistics.median(times), sold()


def assume(book, runs):
    from assume.common.market_objects import MarketConfig, MarketProduct
    from assume.markets.clearing_algorithms.simple import PayAsClearRole
    from dateutil.relativedelta import relativedelta as delta
    from dateutil.rrule import HOURLY, rrule

    start, end = datetime(2026, 1, 1), datetime(2026, 1, 1) + timedelta(minutes=15)
    product = (start, end, None)
    hours = rrule(HOURLY, dtstart=start, until=start + timedelta(days=1))
    products = [MarketProduct(delta(minutes=15), 1, delta(minutes=15))]
    role = PayAsClearRole(MarketConfig(market_id="bench", opening_hours=hours, market_products=products))

    def make():
        return [
            {
                "bid_id": o["id"],
                "start_time": start,
                "end_time": end,
                "only_hours": None,
                "price": o["price"] / 1000,
                "volume": o["qty"] / 1000 * (-1 if o["side"] == "buy" else 1),
            }
            for o in book
        ]

    def clear(data):
        accepted = role.clear(data, [product])[0]
        return lambda: round(sum(o["accepted_volume"] for o in accepted if o["volume"] > 0) * 1000)

    return median_of(make, clear, runs)


def gsy(book, runs, name):
    module = importlib.import_module(f"gsy_framework.matching_algorithms.{name}_matching_algorithm")
    title = "".join(word.capitalize() for word in name.split("_"))
    algorithm = getattr(module, f"{title}MatchingAlgorithm")

    def side(of, key):
        return [
            {
                "id": o["id"],
                "energy": o["qty"] / 1000,
                "energy_rate": o["price"] / 1_000_000,
                key: {"name": o["id"], "uuid": o["id"], "origin": o["id"], "origin_uuid": o["id"]},
                "buyer_origin": o["id"],
                "seller_origin": o["id"],
            }
            for o in book
            if o["side"] == of
        ]

    def make():
        return {"m": {"t": {"bids": side("buy", "buyer"), "offers": side("sell", "seller"), "current_time": "t"}}}

    def clear(data):
        matches = algorithm().get_matches_recommendations(data)
        return lambda: round(sum(m["selected_energy"] for m in matches) * 1000)

    return median_of(make, clear, runs)


def lemlab(book, runs):
    import pandas
    from lemlab.db_connection import db_param
    from lemlab.lem import clearing_ex_ante

    class Db:
        pass

    Db.db_param = db_param
    config = {
        "types_pricing_ex_ante": {0: "uniform"},
        "types_quality": {0: "na"},
        "share_quality_logging_extended": False,
    }

    def frame(side, kind):
        rows = [o for o in book if o["side"] == side]
        return pandas.DataFrame(
            {
                db_param.ID_USER: [o["id"] for o in rows],
                db_param.PRICE_ENERGY: [o["price"] for o in rows],
                db_param.QTY_ENERGY: [o["qty"] for o in rows],
                db_param.QUALITY_ENERGY: 0,
                db_param.PREMIUM_PREFERENCE_QUALITY: 0,
                db_param.TYPE_POSITION: kind,
                db_param.NUMBER_POSITION: range(len(rows)),
                db_param.STATUS_POSITION: 0,
                db_param.T_SUBMISSION: 0,
                db_param.TS_DELIVERY: 0,
            }
        )

    def make():
        return frame("sell", 0), frame("buy", 1)

    def clear(data):
        cleared = clearing_ex_ante.clearing_pda(Db, config, data[0], data[1])[0]
        return lambda: int(cleared[db_param.QTY_ENERGY_TRADED].sum())

    return median_of(make, clear, runs)


PEERS = {
    "ASSUME pay-as-clear": lambda book, runs: assume(book, runs),
    "gsy-framework pay-as-clear": lambda book, runs: gsy(book, runs, "pay_as_clear"),
    "gsy-framework pay-as-bid": lambda book, runs: gsy(book, runs, "pay_as_bid"),
    "lemlab clearing_pda": lambda book, runs: lemlab(book, runs),
}


def in_process(name, count, runs, paths, answer):
    sys.path[:0] = paths
    try:
        answer.put(PEERS[name](orders(count), runs))
    except Exception as error:
        answer.put(f"not there, or failed: {error!r}")


def run(name, count, runs, paths):
    answer = multiprocessing.Queue()
    process = multiprocessing.Process(target=in_process, args=(name, count, runs, paths, answer))
    process.start()
    try:
        result = answer.get(timeout=LIMIT_S)
    except queue.Empty:
        result = f"stopped after {LIMIT_S} s"
    process.terminate()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, action="append")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gsy", type=pathlib.Path)
    parser.add_argument("--lemlab", type=pathlib.Path)
    args = parser.parse_args()
    paths = [str(path) for path in (args.gsy, args.lemlab) if path]
    for count in args.orders or [1000, 10_000]:
        ms, sold = ours(orders(count), max(args.runs, 11))
        print(f"{count:7} orders  commonwatt market::clear     {ms:12.3f} ms  {sold / 1000:12.3f} kWh")
        for name in PEERS:
            result = run(name, count, args.runs, paths)
            if isinstance(result, str):
                print(f"{count:7} orders  {name:28} {result}")
            else:
                ms, sold = result
                print(f"{count:7} orders  {name:28} {ms:12.3f} ms  {sold / 1000:12.3f} kWh")


if __name__ == "__main__":
    main()
