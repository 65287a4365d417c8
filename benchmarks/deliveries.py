"""Deliveries a second of one dispatcher process, beside a loop that only posts, and pgqueuer."""

import contextlib
import time
from pathlib import Path
from typing import Any

from benchmarks import servers, traffic
from benchmarks.bench import Bench
from benchmarks.database import Database
from benchmarks.report import Row, median
from benchmarks.servers import Hub
from benchmarks.sink import MissingError, middle
from benchmarks.traffic import Line

COUNT = 20_000
JOBS = 6_000
CONCURRENCY = 32
"""Posts in flight: the hub's default for a subscription."""
_DRAIN_SECONDS = 120


def measure(bench: Bench) -> list[Row]:
    """A backlog that a dispatcher finds when it starts; the same bodies posted by others."""
    count = bench.some(COUNT, 2_000)
    engine: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    queue: list[tuple[float, float]] = []
    idle: list[float] = []
    size = 0
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(bench.server.database("bench_deliveries"))
        gateway = stack.enter_context(bench.process(database, "gateway"))
        other = stack.enter_context(bench.server.database("bench_pgqueuer", migrated=False))
        line = gateway.open_line()
        gateway.meet(line, range(bench.customers))
        gateway.connect(line, bench.sink.url("engine"))
        for _ in range(bench.rounds):
            engine.append(_drain(bench, database, gateway, line, count))
            samples, size = bench.sink.samples("engine", bench.folder)
            bare.append(_bare(bench, samples, count))
            posted, nothing = _pgqueuer(bench, other, samples, bench.some(JOBS, 1_000))
            queue.append(posted)
            idle.append(nothing)
    return _rows(engine, bare, queue, idle, size)


def _drain(bench: Bench, database: Database, gateway: Hub, line: Line, count: int) -> tuple[float, float]:
    """Fill the log while nobody delivers, then start a dispatcher; gives seconds and its CPU seconds per delivery."""
    bench.sink.reset()
    gateway.post(traffic.ready_made(line, traffic.in_turn(count, bench.customers)))
    with bench.process(database, "fanout") as dispatcher:
        first = _reached(bench, dispatcher, count // 10)
        last = _reached(bench, dispatcher, count * 9 // 10)
        bench.sink.wait({"engine": count}, _DRAIN_SECONDS)
    taken, arrivals = middle(bench.sink.report("engine")["times"])
    return taken / arrivals, (last[1] - first[1]) / (last[0] - first[0])


def _reached(bench: Bench, dispatcher: Hub, count: int) -> tuple[int, float]:
    """Wait until about so many have arrived; gives how many, and the CPU seconds used up to then."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while (arrived := bench.sink.count("engine")) < count:
        if time.monotonic() > deadline:
            raise MissingError(f"{arrived} of {count} deliveries arrived in {_DRAIN_SECONDS} s")
        time.sleep(0.02)
    return arrived, dispatcher.cpu()


def _bare(bench: Bench, samples: Path, count: int) -> tuple[float, float]:
    url = bench.sink.url("bare")
    told = servers.output("benchmarks.post_loop", url, str(samples), str(count), str(CONCURRENCY))
    return _timed(bench, "bare", count), told["cpu"] / count


def _pgqueuer(bench: Bench, database: Database, samples: Path, count: int) -> tuple[tuple[float, float], float]:
    """Seconds and CPU seconds per job that posts, and seconds per job that does nothing."""
    url = bench.sink.url("pgqueuer")
    arguments = [database.url, url, str(samples), str(count), str(CONCURRENCY)]
    told: dict[str, Any] = servers.output("benchmarks.pgqueuer_consumer", *arguments)
    return (_timed(bench, "pgqueuer", count), told["cpu"] / count), told["idle_seconds"] / count


def _timed(bench: Bench, name: str, count: int) -> float:
    """Seconds per POST that arrived at an endpoint; bodies repeat, so they are counted, not told apart."""
    times = bench.sink.report(name)["times"]
    if len(times) != count:
        raise MissingError(f"{name}: {len(times)} of {count} arrived")
    taken, arrivals = middle(times)
    return taken / arrivals


def _rows(
    engine: list[tuple[float, float]],
    bare: list[tuple[float, float]],
    queue: list[tuple[float, float]],
    idle: list[float],
    size: int,
) -> list[Row]:
    more = median((ours[0] / theirs[0] - 1) * 100 for ours, theirs in zip(engine, bare, strict=True))
    ratio = median(theirs[0] / ours[0] for ours, theirs in zip(engine, queue, strict=True))
    told = f"pgqueuer consuming and posting: {_told(queue)}; jobs that do nothing: {1 / median(idle):,.0f}/s"
    return [
        Row(
            f"deliveries/s per dispatcher process, signed, {size} B, from a backlog",
            _told(engine),
            f"bare aiohttp POST loop, unsigned: {_told(bare)}",
            f"time per delivery {more:+.0f} % (goal <= +15 %{'' if more <= 15 else ', MISSED'})",
        ),
        Row("...", _told(engine), told, f"{ratio:.2f} x"),
    ]


def _told(rounds: list[tuple[float, float]]) -> str:
    return f"{1 / median(taken for taken, _ in rounds):,.0f}/s, {median(cpu for _, cpu in rounds) * 1e6:.0f} us CPU"
