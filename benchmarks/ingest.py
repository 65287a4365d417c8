"""Durable inbound webhooks a second, and what each costs."""

import contextlib
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks import servers, traffic
from benchmarks.bench import Bench, Spent, spent
from benchmarks.database import Database
from benchmarks.report import Row, at_least, median
from benchmarks.servers import CONNECTIONS, Hub, Served
from benchmarks.traffic import Line
from hub.store.embedded_host import find_binaries

COUNT = 20_000
PYWA_COUNT = 5_000
PGBENCH_SECONDS = 3
PGBENCH_CLIENTS, PGBENCH_THREADS = 32, 2
_SETUP = Path(__file__).with_name("pgbench_setup.sql")
_SCRIPT = Path(__file__).with_name("pgbench.sql")


def measure(bench: Bench) -> list[Row]:
    """The hub beside a bare handler, pywa in FastAPI, and pgbench with the same inserts as one function."""
    rates: dict[str, list[float]] = {"hub": [], "bare": [], "pywa": [], "pgbench": []}
    acks: list[float] = []
    costs: list[Spent] = []
    count = bench.some(COUNT, 1_000)
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(bench.hub("ingest"))
        bare, pywa = stack.enter_context(servers.bare()), stack.enter_context(servers.pywa())
        database = stack.enter_context(bench.server.database("bench_pgbench"))
        database.execute(_SETUP.read_text())
        line = _prepared(bench, hub)
        for _ in range(bench.rounds):
            rates["bare"].append(bare.post(_requests(bench, line, count)).per_second)
            rates["pywa"].append(_pywa(pywa, _requests(bench, line, bench.some(PYWA_COUNT, 500))))
            rates["pgbench"].append(pgbench(database, max(1, round(PGBENCH_SECONDS * bench.scale))))
            requests, before = _requests(bench, line, count), spent(bench, hub)
            result = hub.post(requests)
            costs.append(spent(bench, hub) - before)
            rates["hub"].append(result.per_second)
            acks.append(result.percentile(0.99))
    return [*_rows(rates, median(acks)), _cost(costs, count)]


def _prepared(bench: Bench, hub: Hub) -> Line:
    """A number with one service, its customers known."""
    line = hub.open_line()
    hub.connect(line)
    hub.meet(line, range(bench.customers))
    hub.post(_requests(bench, line, bench.some(2_000)))
    return line


def _requests(bench: Bench, line: Line, count: int) -> list[bytes]:
    return traffic.ready_made(line, traffic.in_turn(count, bench.customers))


def _pywa(pywa: Served, requests: list[bytes]) -> float:
    """It answers 200 even where its handler was never called: counted, therefore."""
    before = pywa.call("GET", "/taken")
    result = pywa.post(requests)
    taken = pywa.call("GET", "/taken") - before
    assert taken == len(requests), f"pywa's handler took {taken} of {len(requests)} messages"
    return result.per_second


def _rows(rates: dict[str, list[float]], ack: float) -> list[Row]:
    what = f"durable inbound webhooks/s per gateway process, {CONNECTIONS} connections"
    beside = {
        "bare": ("bare aiohttp handler", 0.55),
        "pgbench": (f"pgbench -c {PGBENCH_CLIENTS} -j {PGBENCH_THREADS}, the same inserts as one function", 1.2),
        "pywa": ("pywa + FastAPI, empty handler", None),
    }
    rows = []
    for name, (told, goal) in beside.items():
        ratio = median(ours / theirs for ours, theirs in zip(rates["hub"], rates[name], strict=True))
        verdict = f"{ratio:.2f} x" if goal is None else at_least(ratio, goal)
        measured = f"{median(rates['hub']):,.0f}/s, p99 {ack:.1f} ms"
        rows.append(Row(what, measured, f"{told}: {median(rates[name]):,.0f}/s", verdict))
        what = "..."
    return rows


def _cost(costs: list[Spent], count: int) -> Row:
    middle = sorted(costs, key=lambda cost: cost.cpu)[len(costs) // 2]
    return Row("CPU per webhook", middle.each(count), f"{middle.wal / count:,.0f} bytes of write-ahead log")


def pgbench(database: Database, seconds: int) -> float:
    """Transactions a second of the function in `pgbench_setup.sql`."""
    beside = find_binaries(None, None).folder / "pgbench"
    command = str(beside) if beside.exists() else shutil.which("pgbench")
    if command is None:
        raise RuntimeError("there is no pgbench beside this PostgreSQL nor on PATH")
    options = ["-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", str(PGBENCH_THREADS), "-T", str(seconds)]
    place = ["-h", database.host, "-p", str(database.port), "-U", database.user, "-f", str(_SCRIPT), database.name]
    done = subprocess.run([command, *options, *place], capture_output=True, text=True, timeout=60, check=False)
    tps = re.search(r"tps = ([0-9.]+)", done.stdout)
    failed = re.search(r"failed transactions: ([0-9]+)", done.stdout)
    if done.returncode or tps is None or (failed and failed[1] != "0"):
        raise RuntimeError(f"pgbench: {done.stderr[-500:] or done.stdout}")
    return float(tps[1])
