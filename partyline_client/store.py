"""What a service must not forget, in one SQLite file: events that are done, positions, gaps, signing secrets.

Safe to share between threads, tasks and processes of one machine. A service that has a database of its own keeps the
ids there, in the transaction of the work (docs/client.md).
"""

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from partyline_client.errors import InProgress
from partyline_client.events import Event
from partyline_client.sequences import Missing, Numbers, Observation, Place

LEASE: Final = 60.0
"""Seconds after which work that has not ended is taken for dead, and its event for new."""
KEEP: Final = 31 * 86_400.0
"""Seconds an id is remembered: replays may ask for anything in the hub's log of 30 days."""
OVERLAP: Final = 86_400.0
"""Seconds that an old signing secret counts: so long the hub signs with both."""
_PRUNE_EVERY: Final = 500
_BUSY: Final = 30.0
_SCHEMA: Final = """
create table if not exists seen (event_id text primary key, owner text, at real not null, is_done integer not null);
create index if not exists seen_at on seen (at);
create table if not exists place (name text primary key, position text not null);
create table if not exists numbers (conversation_id text primary key, known text not null, at real not null);
create table if not exists secret (
    number text, secret text, made real not null, until real, primary key (number, secret)
);
"""


class Store:
    """Opens the file, or makes it, readable to its owner alone. `:memory:` forgets it all at the end of the process."""

    def __init__(
        self,
        path: str | Path = ":memory:",
        *,
        lease: float = LEASE,
        keep: float = KEEP,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lease, self.keep, self.clock = lease, keep, clock
        self._path = str(path)
        self._lock = threading.RLock()
        self._open()
        self.seen = SeenStore(self)
        self.sequences = SequenceStore(self)
        self.secrets = SecretStore(self)

    def position(self, name: str = "feed") -> "Position":
        """Where one feed or stream goes on; name one for each way of asking."""
        return Position(self, name)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time."""
        with self._lock:
            if self._process != os.getpid():  # a connection does not survive a fork
                self._open()
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; others wait for it, in whatever process."""
        with self.reading() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def settle(self) -> None:
        """Have what was written reach the disk now, not within seconds."""
        with self.reading() as connection:
            connection.execute("pragma wal_checkpoint(full)")

    def _open(self) -> None:
        if self._path != ":memory:":
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._process = os.getpid()
        self._connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.executescript(_SCHEMA)


class Position:
    """Where to go on: give `after` and `save` to `follow_feed` or `follow_stream`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    @property
    def after(self) -> str | None:
        """The position that was saved last, None before the first."""
        with self._store.reading() as connection:
            row = connection.execute("select position from place where name = ?", (self._name,)).fetchone()
        return row and str(row[0])

    def save(self, position: str) -> None:
        """Keep it."""
        with self._store.writing() as connection:
            connection.execute(
                "insert into place values (?, ?) on conflict (name) do update set position = excluded.position",
                (self._name, position),
            )


class SeenStore:
    """Remembers the events that are done, as `Seen` does, over restarts and for all processes that share the file."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._count = 0

    @contextmanager
    def handling(self, event_id: str) -> Iterator[bool]:
        """Work in this block. It gives whether the event is new; the id is kept unless the block raises.

        Raises `InProgress` where the same event is being worked on, here or in another process.
        """
        owner = uuid.uuid4().hex
        is_new = self._begin(event_id, owner)
        try:
            yield is_new
        except BaseException:
            if is_new:
                self._abandon(event_id, owner)
            raise
        if is_new:
            self._commit(event_id, owner)

    def _begin(self, event_id: str, owner: str) -> bool:
        now = self._store.clock()
        with self._store.writing() as connection:
            taken = connection.execute(
                "insert into seen values (?, ?, ?, 0) on conflict (event_id) do update "
                "set owner = excluded.owner, at = excluded.at where not is_done and at <= ?",
                (event_id, owner, now, now - self._store.lease),
            )
            if taken.rowcount == 1:
                return True
            [is_done] = connection.execute("select is_done from seen where event_id = ?", (event_id,)).fetchone()
        if not is_done:
            raise InProgress(f"{event_id} is being worked on")
        return False

    def _commit(self, event_id: str, owner: str) -> None:
        now = self._store.clock()
        with self._store.writing() as connection:
            connection.execute(
                "insert into seen values (?, ?, ?, 1) on conflict (event_id) do update "
                "set is_done = 1, at = excluded.at",
                (event_id, owner, now),
            )
            self._count += 1
            if self._count % _PRUNE_EVERY == 0:
                for table in ("seen", "numbers"):
                    connection.execute(f"delete from {table} where at < ?", (now - self._store.keep,))

    def _abandon(self, event_id: str, owner: str) -> None:
        with self._store.writing() as connection:
            connection.execute("delete from seen where event_id = ? and owner = ?", (event_id, owner))


class SequenceStore:
    """Watches the numbers of conversations, as `Sequences` does, over restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def observe(self, event: Event) -> Observation:
        """Say where an event stands, and remember it."""
        if event.conversation_id is None or event.sequence is None:
            return Observation(Place.IN_ORDER)
        return self.note(event.conversation_id, event.sequence, is_replay=event.is_replay)

    def note(self, conversation_id: str, sequence: int, *, is_replay: bool = False) -> Observation:
        """The same for a number alone."""
        with self._store.writing() as connection:
            known = _read(connection, conversation_id)
            if known is None and is_replay:  # an old number says nothing about the next one
                return Observation(Place.LATE)
            found, known = (
                (known.note(sequence, is_replay=is_replay), known)
                if known
                else (Observation(Place.IN_ORDER), Numbers(sequence, sequence))
            )
            ranges = [[gap.first, gap.last] for gap in known.missing]
            connection.execute(
                "insert or replace into numbers values (?, ?, ?)",
                (conversation_id, json.dumps([known.oldest, known.highest, ranges]), self._store.clock()),
            )
        return found

    def missing(self, conversation_id: str) -> tuple[Missing, ...]:
        """What is still missing of a conversation."""
        with self._store.reading() as connection:
            known = _read(connection, conversation_id)
        return tuple(known.missing) if known else ()


def _read(connection: sqlite3.Connection, conversation_id: str) -> Numbers | None:
    row = connection.execute("select known from numbers where conversation_id = ?", (conversation_id,)).fetchone()
    if row is None:
        return None
    oldest, highest, ranges = json.loads(row[0])
    return Numbers(oldest, highest, [Missing(first, last) for first, last in ranges])


class SecretStore:
    """Keeps the signing secrets of one's numbers: give it to a `Receiver`, and to `join` and `rotate` of a hub."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self) -> list[str]:
        """All that are good now."""
        return self._list("true", ())

    def of(self, number: str) -> list[str]:
        """Those of one number, the newest first."""
        return self._list("number = ?", (number,))

    def add(self, number: str, secret: str, overlap_seconds: float = OVERLAP) -> None:
        """Keep a new one; the others of this number are good for so many seconds yet."""
        now = self._store.clock()
        with self._store.writing() as connection:
            connection.execute("delete from secret where until < ?", (now,))
            connection.execute(
                "update secret set until = ? where number = ? and until is null", (now + overlap_seconds, number)
            )
            connection.execute("insert or replace into secret values (?, ?, ?, null)", (number, secret, now))
        self._store.settle()  # it is told once

    def _list(self, which: str, values: tuple[str, ...]) -> list[str]:
        with self._store.reading() as connection:
            rows = connection.execute(
                f"select secret from secret where {which} and (until is null or until > ?) "
                "order by until is not null, made desc",
                (*values, self._store.clock()),
            ).fetchall()
        return [str(secret) for (secret,) in rows]
