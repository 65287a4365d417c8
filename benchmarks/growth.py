"""What an event costs when there is much of everything: conversations, and a dead subscriber's backlog."""

import contextlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks import traffic
from benchmarks.bench import Bench, Spent, spent
from benchmarks.report import Row, at_most, median
from benchmarks.servers import Hub, dead_port
from benchmarks.traffic import Line

FEW, MANY = 1_000, 100_000
EVENTS = 5_000
SUBSCRIBERS = 3
_STRIDE = 7_919
"""A prime: customers who write are spread over all of them."""
_BASE = "few"


@dataclass
class _World:
    """A hub with so many conversations, and so many events that a dead subscriber has not got."""

    hub: Hub
    line: Line
    conversations: int
    turn: Iterator[int] = field(default_factory=itertools.count)
    costs: list[Spent] = field(default_factory=list)

    def next_customers(self, count: int) -> list[int]:
        return [n * _STRIDE % self.conversations for n in itertools.islice(self.turn, count)]


def measure(bench: Bench) -> list[Row]:
    """Three hubs side by side: few of both, many conversations, a long backlog."""
    few, many = bench.some(FEW), bench.some(MANY, 2_000)
    events = bench.some(EVENTS, 500)
    sizes = {_BASE: (few, few), "conversations": (many, few), "backlog": (few, many)}
    with contextlib.ExitStack() as stack:
        dead = f"http://127.0.0.1:{stack.enter_context(dead_port())}/"
        hubs = {name: stack.enter_context(bench.hub(f"growth_{name}")) for name in sizes}
        with ThreadPoolExecutor() as builders:
            jobs = {name: builders.submit(_build, bench, hubs[name], name, dead, *size) for name, size in sizes.items()}
        worlds = {name: job.result() for name, job in jobs.items()}
        for _ in range(bench.rounds):
            for name, world in worlds.items():
                world.costs.append(_round(bench, name, world, events))
    return [
        _row(worlds, "conversations", f"{few:,} -> {many:,} conversations", events),
        _row(worlds, "backlog", f"a dead subscriber's backlog of {few:,} -> {many:,} events", events),
    ]


def _build(bench: Bench, hub: Hub, name: str, dead: str, conversations: int, backlog: int) -> _World:
    world = _World(hub, hub.open_line(), conversations)
    hub.meet(world.line, range(conversations))
    hub.connect(world.line, dead)
    hub.post(traffic.batches(world.line, world.next_customers(backlog)), 8)
    for n in range(SUBSCRIBERS):
        hub.connect(world.line, bench.sink.url(f"{name}{n}"))
    return world


def _round(bench: Bench, name: str, world: _World, events: int) -> Spent:
    bench.sink.reset()
    requests = traffic.ready_made(world.line, world.next_customers(events))
    before = spent(bench, world.hub)
    world.hub.post(requests)
    bench.sink.wait({f"{name}{n}": events for n in range(SUBSCRIBERS)})
    return spent(bench, world.hub) - before


def _row(worlds: dict[str, _World], name: str, what: str, events: int) -> Row:
    before, after = worlds[_BASE].costs, worlds[name].costs
    ratio = median(large.cpu / small.cpu for small, large in zip(before, after, strict=True))
    return Row(
        f"growth: CPU per event, delivered to {SUBSCRIBERS}, at {what}",
        _middle(after).each(events),
        _middle(before).each(events),
        at_most(ratio, 1.3),
    )


def _middle(costs: list[Spent]) -> Spent:
    return sorted(costs, key=lambda cost: cost.cpu)[len(costs) // 2]
