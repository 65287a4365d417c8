"""Following feed and stream against a hub that plays a script: what is given out, saved, told, and waited for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest

from partyline_client import (
    Event,
    Expired,
    HubError,
    Missing,
    Presence,
    Problem,
    Seen,
    Sequences,
    Store,
    Unreachable,
    Unreadable,
    follow_feed,
    follow_stream,
    following,
)
from partyline_client.request import Request

EXPIRED = {"after_event_id": "evt_1", "upto_event_id": "evt_9"}
AWAY, BUSY = Unreachable("away"), Problem(429, "too_many_streams")
GONE = Problem(409, "not_connected")
NOW = "2026-11-21T23:28:21Z"
THERE = {"conversation": {"id": "cnv_1"}, "presence": {"state": "typing", "expires_at": NOW}}


def document(number: int, **more: Any) -> dict[str, Any]:
    data = {"event_id": f"evt_{number}", "conversation": {"id": "cnv_1", "sequence": number}, **more}
    return {"type": "message.received", "timestamp": NOW, "data": data}


def page(position: str, *numbers: int, has_more: bool = False, **more: Any) -> dict[str, Any]:
    return {"items": [document(n) for n in numbers], "next": position, "has_more": has_more, **more}


def frame(number: int, position: str = "") -> bytes:
    told = f"event: message.received\ndata: {json.dumps(document(number))}\n\n"
    return (f"id: {position}\n" if position else "").encode() + told.encode()


class Script:
    """A hub that gives these one after the other: a page, an error, or a stream as a list of chunks and errors."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []

    def _next(self, request: Request[Any]) -> Any:
        self.asked.append(request.headers.get("Last-Event-ID", "") + request.path.removeprefix("/v1/events"))
        step = self.steps.pop(0) if self.steps else GONE
        if isinstance(step, HubError):
            raise step
        assert isinstance(step, list) == ("/stream" in request.path), (request.path, step)
        return step

    async def call(self, request: Request[Any], /) -> Any:
        return request.read(self._next(request))

    @asynccontextmanager
    async def chunks(self, request: Request[Any], /) -> AsyncIterator[AsyncIterator[bytes]]:
        pieces = self._next(request)

        async def read() -> AsyncIterator[bytes]:
            for piece in pieces:
                if isinstance(piece, HubError):
                    raise piece
                yield piece

        yield read()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waited: without waiting, and without chance."""
    slept: list[float] = []
    wait = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await wait(0)

    monkeypatch.setattr(following.asyncio, "sleep", sleep)
    monkeypatch.setattr(following.random, "random", lambda: 0.0)
    return slept


async def followed(source: AsyncIterator[Event], error: HubError = GONE) -> list[int]:
    """The numbers it gives, until it raises this."""
    found: list[int] = []

    async def listen() -> None:
        async for event in source:
            found.append(int(event.id.removeprefix("evt_")))  # noqa: PERF401  what came before the error counts

    with pytest.raises(type(error), match=str(error)):
        await listen()
    return found


async def test_the_feed_page_by_page(pauses: list[float]) -> None:
    saved: list[str] = []
    gaps: list[Missing] = []
    holes: list[Expired] = []

    async def keep(position: str) -> None:
        saved.append(position)

    hub = Script(
        page("a", 1, 2, has_more=True),
        page("b", 2, 3),  # one again
        page("b"),
        AWAY,
        Problem(503, "unavailable", retry_after=7),
        page("c", 6, expired=EXPIRED),
        Problem(502, "unknown"),
        Unreadable("a page of the proxy"),
        page("d"),
    )
    source = follow_feed(
        hub,
        save=keep,
        since=NOW,
        number="+1",
        every=0.5,
        sequences=Sequences(),
        on_gap=lambda _, missing: gaps.append(missing),
        on_expired=holes.append,
    )
    assert await followed(source) == [1, 2, 3, 6]
    assert saved == ["a", "b", "c", "d"]
    assert (gaps, holes) == ([Missing(4, 5)], [Expired("evt_1", "evt_9")])
    assert hub.asked[0] == "?since=2026-11-21T23%3A28%3A21Z&number=%2B1&limit=200"
    assert {question.split("&")[0] for question in hub.asked[1:]} == {"?after=a", "?after=b", "?after=c", "?after=d"}
    assert pauses == [0.5, 0.5, 2.0, 7.0, 0.5, 2.0, 4.0, 0.5]


@pytest.mark.parametrize("follow", [follow_feed, follow_stream])
@pytest.mark.parametrize("error", [Problem(401, "unauthorized"), Problem(422, "invalid"), Unreadable("what?"), GONE])
async def test_what_will_not_pass_is_raised(follow: Any, error: HubError, pauses: list[float]) -> None:
    assert await followed(follow(Script(error)), error) == []
    assert pauses == []


async def test_a_hub_that_is_away_is_asked_ever_less(pauses: list[float]) -> None:
    assert await followed(follow_feed(Script(*[AWAY] * 8))) == []
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    pauses.clear()
    assert await followed(follow_feed(Script(*[AWAY] * 3), pause=0.1)) == []
    assert pauses == [0.1, 0.2, 0.4]


async def test_the_stream_goes_on_where_the_work_is(pauses: list[float]) -> None:
    saved: list[str] = []
    there: list[Presence] = []
    presence = {"type": "conversation.presence", "timestamp": NOW, "data": THERE}
    hub = Script(
        [b"retry: 1500\nid: a\n\n", frame(1), frame(2, "b"), frame(3)[:20], AWAY],  # cut in the midst of the third
        [frame(2), frame(3, "c"), f"event: conversation.presence\ndata: {json.dumps(presence)}\n\n".encode()],
        [b": still here\nid: c\n\n", b": still here\nid: d\n\n"],
        [b"event: expired\ndata: " + json.dumps(EXPIRED).encode() + b"\n\n", frame(9, "e")],
    )
    holes: list[Expired] = []
    source = follow_stream(hub, save=saved.append, on_presence=there.append, on_expired=holes.append)
    assert await followed(source) == [1, 2, 3, 9]
    assert saved == ["a", "b", "c", "d", "e"]
    assert hub.asked == ["/stream", "b/stream", "c/stream", "d/stream", "e/stream"]
    assert pauses == [1.5] * 4  # as the hub said
    assert [one.state for one in there] == ["typing"]
    assert holes == [Expired("evt_1", "evt_9")]


async def test_without_a_stream_the_feed_is_read(pauses: list[float]) -> None:
    saved: list[str] = []
    hub = Script(
        BUSY, page("a", 1, has_more=True), page("b", 2),
        AWAY, AWAY,
        AWAY, page("c", 3),
        [frame(4, "d")],
        [], page("e", 5),  # it opened, and said nothing: a proxy, perhaps
    )  # fmt: skip
    source = follow_stream(hub, after="0", save=saved.append)
    assert await followed(source) == [1, 2, 3, 4, 5]
    assert saved == ["a", "b", "c", "d", "e"]
    assert [question.split("&")[0] for question in hub.asked] == [
        "0/stream", "?after=0", "?after=a",
        "b/stream", "?after=b",
        "b/stream", "?after=b",
        "c/stream",
        "d/stream", "?after=d",
        "e/stream",
    ]  # fmt: skip


async def test_without_a_position_the_feed_begins_when_the_following_did(pauses: list[float]) -> None:
    hub = Script(BUSY, page("a", 1))
    assert await followed(follow_stream(hub)) == [1]
    assert hub.asked[1].startswith("?since=20")


async def test_what_was_not_worked_on_comes_again() -> None:
    """Whoever leaves the loop, or raises in it, has not done that event: neither it nor the position is kept."""
    store, saved = Store(), list[str]()
    for leaves in (True, False):
        async with aclosing(follow_feed(Script(page("a", 1, 2)), save=saved.append, seen=store.seen)) as source:
            with suppress(KeyError):
                async for event in source:
                    if event.id == "evt_2" and leaves:
                        break
                    if event.id == "evt_2":
                        raise KeyError
    assert saved == []
    assert await followed(follow_feed(Script(page("a", 1, 2), GONE), save=saved.append, seen=store.seen, every=0)) == [
        2
    ]
    assert saved == ["a"]


async def test_what_somebody_else_works_on_is_waited_for(pauses: list[float]) -> None:
    seen = Seen()
    seen.begin("evt_1")
    source = follow_feed(Script(page("a", 1, 2)), seen=seen)
    first = asyncio.ensure_future(anext(source))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not first.done()
    seen.commit("evt_1")
    assert (await first).id == "evt_2"
    assert await followed(source) == []
