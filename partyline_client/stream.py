"""Server-sent events without I/O: feed what `GET /v1/events/stream` sends, get events.

Read as https://html.spec.whatwg.org/multipage/server-sent-events.html says, section "Interpreting an event stream".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from partyline_client.errors import Malformed
from partyline_client.events import Event, Expired, Presence, read_json

MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one event that are kept while the rest of it is on its way."""
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_MILLISECONDS: Final = re.compile("[0-9]{1,9}")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of the stream. `id` is a position in front of which nothing is missing: go on from it."""

    id: str
    type: str
    data: str

    def read(self) -> Event | Expired | Presence:
        """What it holds: an event, the news that events have `Expired`, or a `Presence`. Raises `Malformed`."""
        match self.type:
            case "expired":
                return Expired.from_document(read_json(self.data))
            case "conversation.presence":
                return Presence.from_document(read_json(self.data))
        return Event.from_json(self.data)


class EventStream:
    """Reads one connection. When it breaks, begin a new one where your work is.

    `last_event_id`: where to go on once all events given so far are worked on; it also moves without an event.
    `retry`: seconds to wait before connecting again, where the hub said so.
    """

    def __init__(self, last_event_id: str = "", *, max_bytes: int = MAX_BYTES) -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        self._max_bytes = max_bytes
        self._is_after_cr = False
        self._is_first_line = True
        self._line = bytearray()
        self._id = self._id_of_last = last_event_id
        self._type = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """The events that are complete with these bytes, wherever the chunks are cut.

        Raises `Malformed` for an event over `max_bytes`; the connection is of no use then.
        """
        events = [event for line in self._lines(chunk) if (event := self._take(line)) is not None]
        self.last_event_id = self._id_of_last
        return events

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        if not chunk:
            return
        if self._is_after_cr and chunk.startswith(b"\n"):  # the second half of an end that was cut
            chunk = chunk[1:]
        self._is_after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        for piece in ended:
            self._keep(piece)
            yield self._whole_line()
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        self._line += piece
        if self._size + len(self._line) > self._max_bytes:
            raise Malformed(f"an event of the stream is over {self._max_bytes} bytes")

    def _whole_line(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        if self._is_first_line:
            self._is_first_line, line = False, line.removeprefix(_BOM)
        return line

    def _take(self, line: bytes) -> StreamEvent | None:
        """One line: a field, a comment (it has no name), or the empty line that ends an event."""
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        text = value.decode(errors="replace")
        match name:
            case b"data":
                self._data.append(value)
                self._size += len(value) + 1
            case b"event":
                self._type = text
            case b"id" if "\0" not in text:
                self._id = text
            case b"retry" if _MILLISECONDS.fullmatch(text):
                self.retry = int(text) / 1000
        return None

    def _end(self) -> StreamEvent | None:
        """The event that ends here; without data there is none, but its id counts."""
        self._id_of_last = self._id
        data, kind = b"\n".join(self._data).decode(errors="replace"), self._type or "message"
        is_event = bool(self._data)
        self._data.clear()
        self._type, self._size = "", 0
        return StreamEvent(self._id, kind, data) if is_event else None
