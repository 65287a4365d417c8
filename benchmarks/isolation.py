"""What healthy subscribers notice while one is dead, one is slow and one conversation is refused."""

import contextlib
import time
from dataclasses import dataclass, field

from benchmarks import traffic
from benchmarks.bench import Bench
from benchmarks.client import open_loop, percentile, run
from benchmarks.report import Row, at_most, median
from benchmarks.servers import Hub, Member, dead_port

RATES = (1_000, 500, 250)
SECONDS = 10
SUBSCRIBERS = 5
HEALTHY = (0, 1, 2)
_REFUSING, _DEAD, _SLOW = 2, 3, 4
_SLOW_SECONDS = 9.0
_POISONED = "7"
"""The customer whose messages subscriber 2 answers 400."""
_HEAD_START = 1.0
"""Seconds after connecting: a new subscriber's first delivery waits a moment, until it has its secret."""
_CALM = 250.0
"""Milliseconds: where p99 is above it with all of them healthy, the machine cannot take that rate."""


@dataclass
class _Found:
    healthy: list[list[float]] = field(default_factory=list)
    troubled: list[list[float]] = field(default_factory=list)


def measure(bench: Bench) -> list[Row]:
    """At the highest rate this machine takes while all are healthy; the higher ones are shown as such."""
    rows: list[Row] = []
    with bench.hub("isolation") as hub, dead_port() as dead:
        line = hub.open_line()
        hub.meet(line, range(bench.customers))
        members = [hub.connect(line) for _ in range(SUBSCRIBERS)]
        for member in members:
            hub.disconnect(member)
        for rate in RATES:
            found = _Found()
            for n in range(bench.rounds):
                found.healthy.append(_round(bench, hub, members, rate, None))
                if n == 0 and rate != RATES[-1] and percentile(found.healthy[0], 0.99) > _CALM:
                    break
                found.troubled.append(_round(bench, hub, members, rate, dead))
            rows.append(_row(rate, found))
            if found.troubled:
                break
    return rows


def _round(bench: Bench, hub: Hub, members: list[Member], rate: int, dead: int | None) -> list[float]:
    """Latencies of the healthy ones; `dead` is a port that refuses, or None where all are healthy."""
    bench.sink.reset()
    urls = [bench.sink.url(f"i{n}") for n in range(SUBSCRIBERS)]
    count = max(rate, round(rate * SECONDS * bench.scale))
    expected = {f"i{n}": count for n in HEALTHY} if dead else {f"i{n}": count for n in range(SUBSCRIBERS)}
    if dead:
        bench.sink.set(
            **{f"i{_REFUSING}": {"refuses": _POISONED}, f"i{_SLOW}": {"answers_after": _SLOW_SECONDS}},
        )
        urls[_DEAD] = f"http://127.0.0.1:{dead}/"
        expected[f"i{_REFUSING}"] = sum(
            customer != int(_POISONED) for customer in traffic.in_turn(count, bench.customers)
        )
    with contextlib.ExitStack() as stack:
        for member, url in zip(members, urls, strict=True):
            hub.reconnect(member, url)
            stack.callback(hub.disconnect, member)
        time.sleep(_HEAD_START)
        make = traffic.stamped(members[0].line, bench.customers)
        run(lambda: open_loop(hub.port, make, count, rate))
        bench.sink.wait(expected, 90)
        reports = {n: bench.sink.report(f"i{n}") for n in range(SUBSCRIBERS)}
    if dead:
        assert reports[_REFUSING]["refused"], "nothing was refused: the poisoned conversation was never tried"
        assert reports[_SLOW]["taken"], "the slow subscriber was never tried"
    return [latency for n in HEALTHY for latency in reports[n]["latencies"]]


def _row(rate: int, found: _Found) -> Row:
    what = f"{len(HEALTHY)} healthy of {SUBSCRIBERS} subscribers at {rate:,}/s: receipt"
    beside = f"all healthy: {_told(found.healthy)}"
    if not found.troubled:
        return Row(what, "", beside, "not this machine's rate: see the next")
    ratio = median(
        percentile(bad, 0.99) / percentile(good, 0.99) for good, bad in zip(found.healthy, found.troubled, strict=True)
    )
    return Row(
        f"{what} while one is dead, one takes {_SLOW_SECONDS:.0f} s, one conversation is refused",
        _told(found.troubled),
        beside,
        "p99 " + at_most(ratio, 2),
    )


def _told(rounds: list[list[float]]) -> str:
    middle, high = (median(percentile(latencies, part) for latencies in rounds) for part in (0.5, 0.99))
    return f"p50 {middle:.1f}, p99 {high:.1f} ms"
