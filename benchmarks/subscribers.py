"""What an event costs with 3, 10 and 50 subscribers: write-ahead log per event, CPU per delivery."""

import time
from dataclasses import replace

from benchmarks import traffic
from benchmarks.bench import Bench, Spent, spent
from benchmarks.report import Row, at_most, median
from benchmarks.servers import Hub
from benchmarks.traffic import Line

EVENTS = 1_000
SUBSCRIBERS = (3, 10, 50)
_SETTLE, _SETTLE_LONG = 2.0, 16.0
"""Seconds after the last delivery: for what is written soon; for the hub's checkpoint of all cursors, every 15 s."""
_WAIT = 120


def measure(bench: Bench) -> list[Row]:
    """One number for each count of subscribers, all of one hub, in turn.

    How much is written hardly depends on how busy the machine is: the first round waits for the last of it, and counts.
    """
    events = bench.some(EVENTS)
    found: dict[int, list[Spent]] = {count: [] for count in SUBSCRIBERS}
    with bench.hub("subscribers") as hub:
        bench.server.main.execute("checkpoint")  # what PostgreSQL writes after one of its own falls before the rounds
        lines = {count: _line(bench, hub, count) for count in SUBSCRIBERS}
        for n in range(bench.rounds):
            for count, line in lines.items():
                found[count].append(_round(bench, hub, line, count, events, _SETTLE if n else _SETTLE_LONG))
    return _rows(found, events)


def _line(bench: Bench, hub: Hub, count: int) -> Line:
    line = hub.open_line(count)
    hub.meet(line, range(bench.customers))
    for n in range(count):
        hub.connect(line, bench.sink.url(f"s{count}-{n}"))
    return line


def _round(bench: Bench, hub: Hub, line: Line, count: int, events: int, settle: float) -> Spent:
    bench.sink.reset()
    requests = traffic.ready_made(line, traffic.in_turn(events, bench.customers))
    before = spent(bench, hub)
    hub.post(requests)
    bench.sink.wait({f"s{count}-{n}": events for n in range(count)}, _WAIT)
    used = spent(bench, hub) - before
    time.sleep(settle)
    return replace(used, wal=bench.server.main.wal() - before.wal)


def _rows(found: dict[int, list[Spent]], events: int) -> list[Row]:
    few, many = SUBSCRIBERS[0], SUBSCRIBERS[-1]
    pairs = list(zip(found[few], found[many], strict=True))
    wal = found[many][0].wal / found[few][0].wal
    cpu = median((after.cpu / many) / (before.cpu / few) for before, after in pairs)
    shown = " / ".join(str(count) for count in SUBSCRIBERS)
    bytes_each = [found[count][0].wal / events for count in SUBSCRIBERS]
    cpu_each = [median(cost.cpu for cost in found[count]) / events / count * 1e6 for count in SUBSCRIBERS]
    return [
        Row(
            f"write volume per event at {shown} subscribers",
            " / ".join(f"{size / 1000:.1f}" for size in bytes_each) + " kB",
            f"{many} beside {few} subscribers",
            at_most(wal, 1.3),
        ),
        Row(
            f"growth: CPU per delivery at {shown} subscribers, hub and PostgreSQL, ingest included",
            " / ".join(f"{cost:.0f}" for cost in cpu_each) + " us",
            f"{many} beside {few} subscribers",
            at_most(cpu, 1.3),
        ),
    ]
