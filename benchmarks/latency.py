"""How long a provider waits for its answer and a subscriber for its event, at steady rates."""

from benchmarks import traffic
from benchmarks.bench import Bench
from benchmarks.client import Result, open_loop, percentile, run
from benchmarks.report import Row, median
from benchmarks.servers import Hub
from benchmarks.traffic import Line

RATES = (200, 500, 1_000)
SECONDS = 8
SUBSCRIBERS = 3
_ACK_P99, _RECEIPT_P50, _RECEIPT_P99 = 10, 5, 15


def measure(bench: Bench) -> list[Row]:
    """At each rate, rounds interleaved."""
    acks: dict[int, list[Result]] = {rate: [] for rate in RATES}
    receipts: dict[int, list[list[float]]] = {rate: [] for rate in RATES}
    with bench.hub("latency") as hub:
        line = hub.open_line()
        hub.meet(line, range(bench.customers))
        for n in range(SUBSCRIBERS):
            hub.connect(line, bench.sink.url(f"l{n}"))
        for _ in range(bench.rounds):
            for rate in RATES:
                result, arrived = _round(bench, hub, line, rate)
                acks[rate].append(result)
                receipts[rate].append(arrived)
    return [row for rate in RATES for row in _rows(rate, acks[rate], receipts[rate])]


def _round(bench: Bench, hub: Hub, line: Line, rate: int) -> tuple[Result, list[float]]:
    bench.sink.reset()
    count = max(rate // 2, round(rate * SECONDS * bench.scale))
    make = traffic.stamped(line, bench.customers)
    result = run(lambda: open_loop(hub.port, make, count, rate))
    names = [f"l{n}" for n in range(SUBSCRIBERS)]
    bench.sink.wait(dict.fromkeys(names, count))
    return result, [latency for name in names for latency in bench.sink.report(name)["latencies"]]


def _rows(rate: int, acks: list[Result], receipts: list[list[float]]) -> list[Row]:
    ack50, ack99 = (median(result.percentile(part) for result in acks) for part in (0.5, 0.99))
    end50, end99 = (median(percentile(latencies, part) for latencies in receipts) for part in (0.5, 0.99))
    load = f"{rate:,}/s, {SUBSCRIBERS} subscribers"
    is_met = end50 <= _RECEIPT_P50 and end99 <= _RECEIPT_P99
    return [
        Row(
            f"acknowledge latency at {load}",
            f"p50 {ack50:.1f}, p99 {ack99:.1f} ms",
            verdict=f"goal p99 <= {_ACK_P99} ms" + ("" if ack99 <= _ACK_P99 else ", MISSED"),
        ),
        Row(
            f"provider's POST to subscriber's receipt at {load}",
            f"p50 {end50:.1f}, p99 {end99:.1f} ms",
            verdict=f"goal p50 <= {_RECEIPT_P50}, p99 <= {_RECEIPT_P99} ms" + ("" if is_met else ", MISSED"),
        ),
    ]
