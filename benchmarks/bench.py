"""What every part of a run shares: the database server, the sink, how much of everything, how often."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.database import Database, Server
from benchmarks.servers import Hub
from benchmarks.sink import Sink

CUSTOMERS = 1_000


@dataclass(frozen=True)
class Bench:
    """One run."""

    folder: Path
    server: Server
    sink: Sink
    scale: float
    rounds: int

    def some(self, full: int, least: int = 100) -> int:
        """How many, at the scale of this run."""
        return min(full, max(least, int(full * self.scale)))

    @property
    def customers(self) -> int:
        """How many customers write, where their number is not what is measured."""
        return self.some(CUSTOMERS)

    def process(
        self, database: Database, roles: str = "gateway,fanout,sender,janitor"
    ) -> contextlib.AbstractContextManager[Hub]:
        """A hub over a database, or one that does a part of it."""
        return servers.hub(database, self.folder, roles)

    @contextlib.contextmanager
    def hub(self, name: str) -> Iterator[Hub]:
        """A hub over a fresh database."""
        with self.server.database(f"bench_{name}") as database, self.process(database) as hub:
            yield hub


@dataclass(frozen=True)
class Spent:
    """CPU seconds and bytes of write-ahead log, so far or between two moments."""

    hub: float
    server: float
    wal: int

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.hub - other.hub, self.server - other.server, self.wal - other.wal)

    @property
    def cpu(self) -> float:
        """Hub and PostgreSQL together."""
        return self.hub + self.server

    def each(self, count: int) -> str:
        """Microseconds per piece."""
        hub, server = self.hub / count * 1e6, self.server / count * 1e6
        return f"{hub:.0f} us hub + {server:.0f} us PostgreSQL"


def spent(bench: Bench, hub: Hub) -> Spent:
    """What a hub and the database server have used up to now."""
    return Spent(hub.cpu(), bench.server.cpu(), bench.server.main.wal())
