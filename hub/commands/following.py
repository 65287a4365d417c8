"""Following a hub's events: a service's by the stream, the operator's by reading on in the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final

import aiohttp
import orjson

from hub.commands.api import Api, read, unreached
from hub.commands.running import UNREACHED, CommandError
from hub.printing import say

_PAGE: Final = 200
_OVERLAP: Final = 100
"""Ids that are read again: near the end of the log some appear later than greater ones."""
_LOOKS: Final = 0.5
"""Seconds between looks, with the operator's key; a service hears of events by the stream."""
_AGAIN: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between tries to reach a hub that has gone."""
_SILENCE: Final = aiohttp.ClientTimeout(total=None, connect=10, sock_read=45)
"""A stream says every 15 s that it lives."""

Event = Mapping[str, Any]


def events(api: Api, since: str | None, number: str | None) -> AsyncIterator[Event]:
    """Events as they come, after those since a time, without end; over interruptions. Raises `CommandError`."""
    return _logged(api, since) if api.is_operator else _streamed(api, since, number)


async def _streamed(api: Api, since: str | None, number: str | None) -> AsyncIterator[Event]:
    """A service's events, over the stream; where it breaks off, on from there. Raises `CommandError`."""
    params = {name: value for name, value in (("since", since), ("number", number)) if value}
    headers: dict[str, str] = {"Accept": "text/event-stream"}
    tries = 0
    while True:
        try:
            url = f"{api.place.url}/v1/events/stream"
            async with api.session.get(url, params=params, headers=headers, timeout=_SILENCE) as answer:
                if answer.status != 200:
                    read(answer.status, await answer.read())
                async for cursor, kind, data in frames(answer.content.iter_any()):
                    tries = 0
                    if cursor:
                        headers["Last-Event-ID"] = cursor
                        params.pop("since", None)
                    if data and kind != "expired":
                        yield orjson.loads(data)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await _wait(unreached(api.place.url, error), tries)
        except CommandError as error:
            if error.code != UNREACHED:
                raise
            await _wait(error, tries)
        else:
            await asyncio.sleep(_AGAIN[0])  # the hub ended it: it is being replaced, or the reader was slow
        tries += 1


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines, however long: aiohttp's own lines end at 128 KiB, and an event may be longer."""
    rest: list[bytes] = []
    async for chunk in chunks:
        *ended, left = chunk.split(b"\n")
        for piece in ended:
            yield b"".join((*rest, piece))
            rest.clear()
        rest.append(left)


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str, str]]:
    """Server-sent events: id, type and data of each."""
    fields: dict[str, str] = {}
    async for raw in _lines(chunks):
        line = raw.decode().rstrip("\r\n")
        if not line:
            if fields:
                yield fields.get("id", ""), fields.get("event", ""), fields.get("data", "")
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


async def _wait(error: CommandError, tries: int) -> None:
    seconds = _AGAIN[min(tries, len(_AGAIN) - 1)]
    say(f"{error} Trying again in {seconds:g} s.")
    await asyncio.sleep(seconds)


async def _logged(api: Api, since: str | None) -> AsyncIterator[Event]:
    """The operator's view of the log, read on as it grows."""
    after = await _find_start(api, since)
    known: dict[str, None] = {}
    tries = 0
    async for event in _page_on(api, after, known):
        yield event
    place = max((int(name[4:], 16) for name in known), default=after)
    while True:
        try:
            async for event in _page_on(api, max(after, place - _OVERLAP), known):
                tries, place = 0, max(place, int(event["event_id"][4:], 16))
                yield event
            await asyncio.sleep(_LOOKS)
        except CommandError as error:
            if error.code != UNREACHED:
                raise
            await _wait(error, tries)
            tries += 1


async def _page_on(api: Api, after: int, known: dict[str, None]) -> AsyncIterator[Event]:
    """Events behind an id that are not known yet, oldest first; they are then."""
    name: str | None = f"evt_{after:016x}"
    while name:
        page = await api.get("/v1/admin/events", {"after": name, "limit": _PAGE})
        for event in page["items"]:
            if event["event_id"] not in known:
                known[event["event_id"]] = None
                yield event
        name = page["next"]
    for old in list(known)[: max(0, len(known) - 20 * _OVERLAP)]:
        del known[old]


async def _find_start(api: Api, since: str | None) -> int:
    """The id behind which to begin: found by halving, since ids follow time."""
    moment = datetime.fromisoformat(since) if since else None

    async def is_before(after: int) -> bool:
        """Whether the first event behind this id is before the moment; without one, whether there is any."""
        page = await api.get("/v1/admin/events", {"after": f"evt_{after:016x}", "limit": 1})
        if not page["items"]:
            return False
        return moment is None or datetime.fromisoformat(page["items"][0]["timestamp"]) < moment

    return await find_last(is_before)


async def find_last(is_before: Callable[[int], Awaitable[bool]]) -> int:
    """The lowest id from which on it does not hold any more."""
    high = 1
    while await is_before(high):
        high *= 2
    low = 0
    while low < high:
        middle = (low + high) // 2
        if await is_before(middle):
            low = middle + 1
        else:
            high = middle
    return low
