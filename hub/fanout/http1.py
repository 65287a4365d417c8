"""One connection that speaks HTTP/1.1: a request goes out, the status of its answer comes back.

Nothing here raises for what the other side does: every request ends with an `Answer`. llhttp parses.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer, head and all, that are read; with the rest the connection is dropped."""
LONGEST_RETRY_AFTER: Final = 86_400.0
"""Seconds; an endpoint that asks for more is tried again after a day."""
_LARGE: Final = 64 * 1024
"""Bytes of a body from which on it is not copied to be written together with its head."""
_UNREACHABLE: Final = frozenset(
    {
        "endpoint_url_invalid",
        "endpoint_not_allowed",
        "dns_failed",
        "connection_refused",
        "connection_failed",
        "tls_failed",
        "disconnected",
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """How an endpoint answered; `status` is None where it did not, and `problem` says why.

    Problems: `endpoint_url_invalid`, `endpoint_not_allowed` (what may not be dialled), `dns_failed`,
    `connection_refused`, `connection_failed` (no route, or reset while connecting), `tls_failed` (handshake or
    certificate), `disconnected` (before any byte of an answer), `bad_answer` (no HTTP, cut off, or a head that is too
    long), `timeout` (at whatever stage), `out_of_sockets` (on our side), `closed` (the client is).
    `retry_after` is in seconds, a day at most.
    """

    status: int | None
    problem: str | None = None
    retry_after: float | None = None

    @property
    def is_unreachable(self) -> bool:
        """Whether nobody was there who could have read the request: neither a time-out nor an answer, however bad."""
        return self.problem in _UNREACHABLE


_answer = lru_cache(maxsize=1024)(Answer)


class Connection(asyncio.Protocol):
    """One request at a time. `is_reusable` after an answer tells whether there may be another."""

    _timer: asyncio.TimerHandle

    def __init__(self) -> None:
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # What other clients forgive, too: control characters in values, bare line feeds, spaces after a chunk's size.
        # Nobody is smuggled past: whatever an endpoint sends is an answer to us alone.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiter: asyncio.Future[Answer] | None = None
        self._problem = "disconnected"
        self._reset()
        self.is_open = False
        self.born = self.idle_since = 0.0

    def _reset(self) -> None:
        self._status = self._received = 0
        self._retry_after: float | None = None
        self._stays_open = self._is_complete = self.is_reusable = False

    def send(self, head: bytes, body: bytes, seconds: float) -> asyncio.Future[Answer]:
        """Send a request; gives its answer to be, at the latest in so many seconds. Who stops waiting calls `drop`."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        if not self.is_open:
            waiter.set_result(Answer(None, self._problem))
            return waiter
        self._reset()
        self._waiter = waiter
        self._timer = loop.call_later(seconds, self._give_up, "timeout")
        if len(body) < _LARGE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return waiter

    def drop(self, problem: str = "disconnected") -> None:
        """Close at once, whatever goes on; who still waits for an answer is told the problem."""
        if self._waiter:
            self._give_up(problem)
        elif self.is_open:
            self.is_open = self.is_reusable = False
            self._problem = problem
            self._transport.abort()

    def _give_up(self, problem: str) -> None:
        """No more is read. Where the head of the answer has come the status counts, else the problem."""
        self._finish(self._outcome() if self._status else _answer(None, problem))
        self.drop(problem)

    def _outcome(self) -> Answer:
        if self._retry_after is None:
            return _answer(self._status)
        return Answer(self._status, None, self._retry_after)

    def _finish(self, answer: Answer) -> None:
        waiter, self._waiter = self._waiter, None
        self._timer.cancel()
        if waiter and not waiter.done():
            waiter.set_result(answer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is there."""
        self._transport = cast("asyncio.Transport", transport)
        self.born = asyncio.get_running_loop().time()
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Some bytes of an answer; or of nothing that was asked for, which ends the connection."""
        if self._waiter is None or self._parser is None:
            self.drop("bad_answer")
            return
        self._received += len(data)
        if self._received > MAX_ANSWER:
            data = data[: MAX_ANSWER - self._received]
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._give_up("bad_answer")
            return
        if self._received > MAX_ANSWER:
            self._give_up("bad_answer")
        elif self._is_complete:
            # An answer that comes before its request is sent leaves the rest of the request in the connection.
            self.is_reusable = self._stays_open and not self._transport.get_write_buffer_size()
            self._finish(self._outcome())
            if not self.is_reusable:
                self.drop()

    def eof_received(self) -> None:
        """The other side has said all; `connection_lost` may have to wait until all is written, the answer need not."""
        self.connection_lost(None)

    def connection_lost(self, _: Exception | None) -> None:
        """The end: of an answer as well, if its length was not given."""
        if self._waiter:
            self._give_up("bad_answer" if self._received else "disconnected")
        self.drop()
        self._parser = None  # the two know each other: no work for the garbage collector

    # What the parser found.

    def on_message_begin(self) -> None:
        """An answer begins; if it is the second, nobody asked for it."""
        if self._is_complete:
            self._stays_open = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after = retry_after(value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        """The head is there: interim ones (1xx) are passed over."""
        if self._parser is None or self._is_complete:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
            self._stays_open = self._parser.should_keep_alive()
        else:
            self._retry_after = None

    def on_message_complete(self) -> None:
        """The answer is there."""
        self._is_complete = bool(self._status)


def retry_after(value: str) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date (RFC 9110, 10.2.3); None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        when = parsedate_to_datetime(value)
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
