"""Drop repeats: the hub delivers at least once, so the same `webhook-id` may come again.

An id is kept only after the work on its event succeeded, otherwise the hub's retry of a failed event would be dropped.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from partyline_client.errors import InProgress

LIMIT: Final = 100_000
"""Ids that are remembered."""
MAX_AGE: Final = 4 * 86_400.0
"""Seconds an id is remembered: the hub's retries end within about four days. Replays may come after."""


class Memory(Protocol):
    """What remembers the events that are done. In a database the block is a transaction (docs/client.md)."""

    def handling(self, event_id: str) -> AbstractContextManager[bool]:
        """Work in this block. It gives whether the event is new; the id is kept unless the block raises."""
        ...


class Seen:
    """Remembers ids in this process: the last `limit`, for `max_age` seconds. Safe to share between threads and tasks.

    A service that must not do its work twice after a restart keeps ids in its database, together with the work.
    """

    def __init__(
        self, *, limit: int = LIMIT, max_age: float = MAX_AGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._max_age = max_age
        self._clock = clock
        self._done: dict[str, float] = {}  # id -> when, in the order of time
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def handling(self, event_id: str) -> Iterator[bool]:
        """Work in this block. It gives whether the event is new; the id is kept unless the block raises.

        Raises `InProgress` where the same event is being worked on.
        """
        is_new = self.begin(event_id)
        try:
            yield is_new
        except BaseException:
            if is_new:
                self.abandon(event_id)
            raise
        if is_new:
            self.commit(event_id)

    def begin(self, event_id: str) -> bool:
        """Whether the event is new; then it is ours to `commit` or `abandon`. Raises `InProgress`."""
        with self._lock:
            self._forget()
            if event_id in self._done:
                return False
            if event_id in self._begun:
                raise InProgress(f"{event_id} is being worked on")
            self._begun.add(event_id)
            return True

    def commit(self, event_id: str) -> None:
        """The work succeeded. Raises KeyError where it was not begun."""
        with self._lock:
            self._begun.remove(event_id)
            self._done[event_id] = self._clock()
            self._forget()

    def abandon(self, event_id: str) -> None:
        """The work failed: the next delivery is new again. Raises KeyError where it was not begun."""
        with self._lock:
            self._begun.remove(event_id)

    def _forget(self) -> None:
        oldest = self._clock() - self._max_age
        while self._done:
            first = next(iter(self._done))
            if len(self._done) <= self._limit and self._done[first] > oldest:
                return
            del self._done[first]
