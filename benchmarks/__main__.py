"""`make bench`: the figures of docs/benchmarks.md, each beside what it is compared with, in one run."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import servers
from benchmarks.client import Result, closed_loop, open_loop
from benchmarks.traffic import NUMBER, PHONE_NUMBER_ID, ready_made, stamped

ROUNDS = 3
COUNT = 20_000
CONNECTIONS = 64
CUSTOMERS = 1_000
RATES = (200, 500, 1_000)
SUBSCRIBERS = 3


def main() -> None:
    """Run all of it and print the table."""
    with tempfile.TemporaryDirectory(prefix="partyline-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with servers.bare() as bare, servers.sink() as sink, servers.hub(Path(folder)) as hub:
            senders = [{"medium": "whatsapp", "provider": "meta", "external_id": PHONE_NUMBER_ID}]
            servers.call(hub, "POST", "/v1/admin/numbers", {"e164": NUMBER, "senders": senders})
            rows = ingest(bare, hub)
            connect(hub, sink)
            for rate in RATES:
                rows += latency(hub, sink, rate)
    table = Table(
        "what", "measured", "compared with", "ratio or goal", title="Partyline, medians of interleaved rounds"
    )
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def run(make: Callable[[], Coroutine[None, None, Result]]) -> Result:
    """Run one measurement on a fresh loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(make())
    assert set(result.statuses) == {200}, result.statuses
    return result


def ingest(bare: int, hub: int) -> list[tuple[str, str, str, str]]:
    """Durable webhooks a second against a handler that stores nothing."""
    bares, hubs = [], []
    run(lambda: closed_loop(hub, iter(ready_made(2_000, CUSTOMERS)), 2_000, CONNECTIONS))
    for _ in range(ROUNDS):
        for port, into in ((bare, bares), (hub, hubs)):
            requests = ready_made(COUNT, CUSTOMERS)
            into.append(run(lambda p=port, r=requests: closed_loop(p, iter(r), COUNT, CONNECTIONS)))
    pairs = [ours.per_second / theirs.per_second for ours, theirs in zip(hubs, bares, strict=True)]
    ours, theirs = (statistics.median(r.per_second for r in results) for results in (hubs, bares))
    ack = statistics.median(r.percentile(0.99) for r in hubs)
    return [
        (
            f"durable inbound webhooks/s, {CONNECTIONS} connections (p99 {ack:.1f} ms)",
            f"{ours:,.0f}/s",
            f"bare aiohttp handler {theirs:,.0f}/s",
            f"{statistics.median(pairs):.2f} x (goal 0.55)",
        )
    ]


def connect(hub: int, sink: int) -> None:
    """Register and connect the subscribers."""
    for n in range(SUBSCRIBERS):
        made = servers.call(hub, "POST", "/v1/admin/services", {"name": f"service {n}", "plan": "bundle"})
        wanted = {"endpoint_url": f"http://127.0.0.1:{sink}/hook/{n}"}
        servers.call(hub, "PUT", f"/v1/numbers/{NUMBER}/connection", wanted, key=made["api_key"])


def latency(hub: int, sink: int, rate: int) -> list[tuple[str, str, str, str]]:
    """How long a provider waits for its answer, and a subscriber for its event, at a steady rate."""
    count = rate * 10
    acks: list[Result] = []
    arrivals: list[list[float]] = []
    for _ in range(ROUNDS):
        servers.call(sink, "POST", "/reset", {})
        acks.append(run(lambda: open_loop(hub, stamped(CUSTOMERS), count, rate)))
        arrivals.append(_arrived(sink, count))
    ack50, ack99 = (statistics.median(r.percentile(p) for r in acks) for p in (0.5, 0.99))
    ordered = [sorted(values) for values in arrivals]
    end50, end99 = (statistics.median(v[int(len(v) * p)] for v in ordered) * 1000 for p in (0.5, 0.99))
    load = f"{rate:,}/s, {SUBSCRIBERS} subscribers"
    return [
        (f"acknowledge latency at {load}", f"p50 {ack50:.1f} ms, p99 {ack99:.1f} ms", "", "goal p99 <= 10 ms"),
        (
            f"provider POST to subscriber receipt at {load}",
            f"p50 {end50:.1f} ms, p99 {end99:.1f} ms",
            "",
            "goal p50 <= 5 ms, p99 <= 15 ms",
        ),
    ]


def _arrived(sink: int, count: int) -> list[float]:
    """Wait until every event has arrived at every subscriber; gives the latencies."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        report = servers.call(sink, "GET", "/report")
        if len(report["latencies"]) >= count * SUBSCRIBERS:
            latencies: list[float] = report["latencies"]
            return latencies
        time.sleep(0.2)
    raise AssertionError(f"{len(report['latencies'])} of {count * SUBSCRIBERS} deliveries arrived")


if __name__ == "__main__":
    main()
