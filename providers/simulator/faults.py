"""What can go wrong with a send, on request."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

from aiohttp import web

Kind = Literal["throttled", "unavailable", "refused", "bare", "html", "no_message", "silent", "dropped"]
"""`throttled`, `unavailable` and `refused` are answered in the provider's own words, the rest without them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour of an API. `code` and `status` default to the provider's usual ones.

    With `taken` the message is accepted all the same (recorded, with status callbacks): the sender cannot know.
    """

    kind: Kind
    code: int | None = None
    status: int | None = None
    retry_after: int | None = None
    taken: bool = False

    @classmethod
    def throttled(cls, *, code: int | None = None, retry_after: int | None = None, status: int | None = None) -> Self:
        """Too many requests; `retry_after` in seconds goes into the header."""
        return cls("throttled", code=code, retry_after=retry_after, status=status)

    @classmethod
    def unavailable(cls) -> Self:
        """A 5xx with the provider's error body."""
        return cls("unavailable")

    @classmethod
    def refused(cls, code: int, *, status: int = 400) -> Self:
        """The provider's error body with this code."""
        return cls("refused", code=code, status=status)

    @classmethod
    def bare(cls, status: int = 502, *, taken: bool = False) -> Self:
        """An error of some proxy in between: HTML."""
        return cls("bare", status=status, taken=taken)

    @classmethod
    def html(cls, *, taken: bool = False) -> Self:
        """HTML with status 200."""
        return cls("html", status=200, taken=taken)

    @classmethod
    def no_message(cls, code: int = 131000, *, status: int = 500) -> Self:
        """The provider's error body without its `message`."""
        return cls("no_message", code=code, status=status)

    @classmethod
    def silent(cls, *, taken: bool = False) -> Self:
        """No answer until the simulator stops: the sender runs into its time-out."""
        return cls("silent", taken=taken)

    @classmethod
    def dropped(cls, *, taken: bool = True) -> Self:
        """The connection is cut instead of an answer."""
        return cls("dropped", taken=taken)


async def misbehave(
    fault: Fault, request: web.Request, stopping: asyncio.Event, error: Callable[[Fault], web.Response]
) -> web.Response:
    """Answer as the fault says, or not at all; `error` builds the provider's error body."""
    if fault.kind in ("bare", "html"):
        page = "<html><body><h1>Bad Gateway</h1></body></html>"
        return web.Response(status=fault.status or 502, text=page, content_type="text/html")
    if fault.kind == "silent":
        await stopping.wait()
    if fault.kind in ("silent", "dropped"):
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    return error(fault)
