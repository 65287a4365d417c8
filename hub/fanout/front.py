"""How far one subscription has come in one shard of the log."""

import heapq
from collections import deque
from collections.abc import Iterable

from hub.domain.events import Event


class Front:
    """The cursor of one shard, and what lies above it.

    Everything at or below `position` is settled: delivered, passed over, given up, or covered by a parked lane. Events
    up to `read` were read. Only events that are to be delivered are kept; others leave no trace.
    """

    __slots__ = ("_beyond", "_covered", "_done", "_known", "_open", "behind", "flying", "moved", "position", "read")

    def __init__(self, position: int, done: Iterable[int] = (), behind: int = 0) -> None:
        self.position = self.read = position
        self.behind = behind
        self.flying = 0
        self.moved = 0
        self._open: deque[Event] = deque()
        self._covered: set[int] = set()
        self._done: set[int] = set()
        self._beyond: list[int] = []
        self._known = {event_id for event_id in done if event_id > position}

    @property
    def oldest(self) -> Event | None:
        """The oldest event that is read and not settled."""
        return self._open[0] if self._open else None

    @property
    def is_plain(self) -> bool:
        """Whether the position says it all."""
        return not (self.moved or self._done or self._known)

    def pass_over(self, event: Event) -> bool:
        """Read an event; gives whether it was settled before this process had the shard."""
        self.read = event.id
        if event.id not in self._known:
            return False
        self._known.discard(event.id)
        self._keep(event.id)
        return True

    def wait_for(self, event: Event) -> None:
        """It is to be delivered: the cursor stops before it."""
        self._open.append(event)

    def settle(self, event_id: int) -> None:
        """Something the cursor waited for is settled."""
        self._done.add(event_id)
        self.advance()

    def cover(self, event_id: int) -> None:
        """A parked lane covers it: the cursor need not wait, and yet it is not done."""
        self._covered.add(event_id)
        self.advance()

    def note_done(self, event_id: int) -> None:
        """Something the cursor does not wait for is done."""
        if event_id > self.position:
            self._keep(event_id)

    def _keep(self, event_id: int) -> None:
        self._done.add(event_id)
        heapq.heappush(self._beyond, event_id)

    def advance(self) -> None:
        """Move the cursor over all that is settled at its front."""
        waiting = self._open
        while waiting and (waiting[0].id in self._done or waiting[0].id in self._covered):
            first = waiting.popleft().id
            self._done.discard(first)
            self._covered.discard(first)
        position = waiting[0].id - 1 if waiting else self.read
        if position > self.position:
            self.position = position
            self.moved += 1
            while self._beyond and self._beyond[0] <= position:
                self._done.discard(heapq.heappop(self._beyond))

    def done_above(self) -> list[int]:
        """What is done above the position."""
        return sorted(self._done | self._known)
