"""The client's calls, and how both hubs make them: paths and bodies by a table, retries against a server that fails."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import partyline_client as client
from partyline_client import NEVER, Hub, Problem, Retries, Unreachable, Unreadable, calls
from partyline_client.aiohttp import AsyncHub
from partyline_client.request import Listing, Request

ANA = {"id": "ana", "name": "Ana"}
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVENT = client.Event("evt_1", "message.received", AT, {"conversation": {"id": "cnv_1"}})
CHAT = "/v1/conversations/cnv_1"
AGENT = {"origin": "agent", "agent": ANA}


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (calls.numbers(), "GET", "/v1/numbers", None),
        (calls.number("+1555"), "GET", "/v1/numbers/+1555", None),
        (
            calls.templates("+1", medium="sms", refresh=True),
            "GET",
            "/v1/numbers/+1/templates?medium=sms&refresh=true",
            None,
        ),
        (calls.conversations(waiting=True), "GET", "/v1/conversations?waiting=true", None),
        (calls.conversation(EVENT), "GET", CHAT, None),
        (calls.timeline("cnv_1"), "GET", f"{CHAT}/messages", None),
        (calls.timeline(EVENT, after=-3, limit=5), "GET", f"{CHAT}/messages?after=-3&limit=5", None),
        (calls.pick_up(EVENT, ANA), "POST", f"{CHAT}/pickup", {"agent": ANA}),
        (calls.release("cnv_1"), "DELETE", f"{CHAT}/pickup", {}),
        (calls.release("cnv_1", ANA), "DELETE", f"{CHAT}/pickup", {"agent": {"id": "ana"}}),
        (calls.presence(EVENT, ANA), "POST", f"{CHAT}/presence", {"agent": ANA, "state": "viewing"}),
        (calls.pass_to(EVENT, "svc_1", note="Yours"), "POST", f"{CHAT}/pass", {"to": "svc_1", "note": "Yours"}),
        (calls.mark_read(EVENT, typing=True), "POST", f"{CHAT}/read", {"typing": True}),
        (
            calls.reply(EVENT, "Hi", agent=ANA, wait=5),
            "POST",
            f"{CHAT}/messages?wait=5",
            {**AGENT, "type": "text", "text": "Hi"},
        ),
        (
            calls.reply(EVENT, media={"id": "m"}, agent=ANA),
            "POST",
            f"{CHAT}/messages",
            {**AGENT, "type": "media", "media": {"id": "m"}},
        ),
        (
            calls.reply(EVENT, type="sticker", media={"id": "m"}, agent=ANA),
            "POST",
            f"{CHAT}/messages",
            {**AGENT, "type": "sticker", "media": {"id": "m"}},
        ),
        (
            calls.reply(EVENT, template={"name": "x"}, agent=ANA),
            "POST",
            f"{CHAT}/messages",
            {**AGENT, "type": "template", "template": {"name": "x"}},
        ),
        (
            calls.reply(EVENT, "Hi", origin="campaign", campaign="spring", send_at=AT, links={"track": False}),
            "POST",
            f"{CHAT}/messages",
            {
                "origin": "campaign",
                "campaign": "spring",
                "send_at": "2026-01-31T12:00:00+00:00",
                "links": {"track": False},
                "type": "text",
                "text": "Hi",
            },
        ),
        (
            calls.send("+49", "Hi", medium="sms", from_number="+1", agent=ANA),
            "POST",
            "/v1/messages",
            {**AGENT, "type": "text", "text": "Hi", "to": "+49", "medium": "sms", "from": "+1"},
        ),
        (calls.cancel("msg_1"), "DELETE", "/v1/messages/msg_1", None),
        (calls.deliveries(number="+1", outcome="failed"), "GET", "/v1/deliveries?number=%2B1&outcome=failed", None),
        (calls.dead_letters(), "GET", "/v1/deliveries/dead", None),
        (calls.drop_dead_letter("evt_1"), "DELETE", "/v1/deliveries/dead/evt_1", None),
        (
            calls.replay(since=AT, failed=True),
            "POST",
            "/v1/replays",
            {"since": "2026-01-31T12:00:00+00:00", "failed": True},
        ),
        (calls.trace("wamid.a/b="), "GET", "/v1/trace?id=wamid.a%2Fb%3D", None),
        (
            calls.identify(email="m@e.example", traits={"x": None}),
            "POST",
            "/v1/identify",
            {"email": "m@e.example", "traits": {"x": None}},
        ),
        (calls.contacts(address="+4 9"), "GET", "/v1/contacts?address=%2B4+9", None),
        (calls.consent("sms", "+49", number="+1"), "GET", "/v1/consents/sms/+49?number=%2B1", None),
        (calls.set_consent("sms", "+49", "granted"), "PUT", "/v1/consents/sms/+49", {"status": "granted"}),
        (calls.create_links([{"url": "https://a"}]), "POST", "/v1/links", {"links": [{"url": "https://a"}]}),
        (calls.request("GET", "/v1/x", after="a b"), "GET", "/v1/x?after=a+b", None),
        (calls.request("POST", "/v1/x", {"a": 1}), "POST", "/v1/x", {"a": 1}),
    ],
)
def test_calls(call: Request[Any] | Listing[Any], method: str, path: str, body: object) -> None:
    request = call.first if isinstance(call, Listing) else call
    assert (request.method, request.path) == (method, path)
    assert (request.body and json.loads(request.body)) == body


def test_what_cannot_be_asked_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="no conversation"):
        calls.reply(client.Event("evt_1", "service.connected", AT, {}), "Hi")
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="names nothing"):
            calls.message(name)
    for wrong, error in ((datetime(2026, 1, 31), ValueError), (object(), TypeError)):  # noqa: DTZ001
        with pytest.raises(error):
            calls.replay(since=wrong)  # type: ignore[arg-type]


def test_each_message_has_a_key_of_its_own_unless_given() -> None:
    keys = [calls.reply("cnv_1", "Hi").headers["Idempotency-Key"] for _ in range(2)]
    assert keys[0] != keys[1]
    assert calls.reply("cnv_1", "Hi", idempotency_key="evt_1").headers["Idempotency-Key"] == "evt_1"


def test_lists_go_on_behind_their_cursor() -> None:
    for listing, cursor in ((calls.timeline("cnv_1", limit=5), "before"), (calls.timeline("cnv_1", after=0), "after")):
        page = listing.first.read({"items": [{}], "next": -7})
        following = listing.following(page)
        assert following is not None
        assert f"{cursor}=-7" in following.path
        assert following.path.count("after=") + following.path.count("before=") == 1
        assert listing.following(listing.first.read({"items": [], "next": None})) is None


# When to ask again --------------------------------------------------------------------------------------------------

GET, REPLY, REPLAY = calls.numbers().first, calls.reply("cnv_1", "Hi"), calls.replay(failed=True)


@pytest.mark.parametrize(
    ("request_", "error", "tried", "pause"),
    [
        (GET, Unreachable("gone"), 0, 0.25),
        (GET, Unreachable("gone"), 1, 0.5),
        (GET, Unreachable("gone"), 2, 1.0),
        (GET, Unreachable("gone"), 3, None),
        (REPLY, Unreachable("gone"), 0, 0.25),
        (REPLAY, Unreachable("gone"), 0, None),
        (calls.rotate_secret("+1"), Unreachable("gone"), 0, None),
        (calls.resume("+1"), Unreachable("gone"), 0, 0.25),
        (calls.resume("+1", "skip"), Unreachable("gone"), 0, None),
        (calls.pick_up("cnv_1", ANA), Unreachable("gone"), 0, 0.25),
        (calls.cancel("msg_1"), Unreachable("gone"), 0, 0.25),
        (calls.connect("+1"), Problem(503, "unavailable", retry_after=5), 0, 5.25),
        (REPLY, Problem(429, "too_many_requests", retry_after=1), 1, 1.5),
        (REPLY, Problem(429, "looks_automated", retry_after=11), 0, None),
        (REPLY, Problem(502, "unknown"), 0, 0.25),
        (REPLAY, Problem(503, "unavailable", retry_after=1), 0, None),
        (GET, Problem(500, "internal"), 0, None),
        (GET, Problem(409, "not_connected"), 0, None),
        (GET, Unreadable("what?"), 0, None),
    ],
)
def test_what_is_tried_again_and_when(request_: Any, error: Any, tried: int, pause: float | None) -> None:
    assert Retries(chance=lambda: 1.0).pause(request_, error, tried) == pause
    assert NEVER.pause(request_, error, tried) is None
    if pause is not None:
        assert Retries(chance=lambda: 0.0).pause(request_, error, tried) >= (error.__dict__.get("retry_after") or 0)


# Both hubs ----------------------------------------------------------------------------------------------------------


@dataclass
class Failing:
    """A hub that answers as it is told: a status, None to hang up, or the JSON of a 200."""

    answers: list[Any]
    url: str = ""
    asked: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key")
        self.asked.append((request.method, request.path_qs, key, await request.read()))
        self.connections.add(request.transport)
        answer = self.answers.pop(0)
        if answer is None:
            assert request.transport
            request.transport.close()
            return web.Response()
        if isinstance(answer, int):
            return web.json_response({"code": "busy", "retry_after": 0}, status=answer, headers={"Retry-After": "0"})
        return web.json_response(answer)


@asynccontextmanager
async def failing(*answers: Any) -> AsyncIterator[Failing]:
    hub = Failing(list(answers))
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", hub.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hub
    finally:
        await runner.cleanup()


QUICK = Retries(first=0.001)
SENT = {"message": {"id": "msg_1", "status": "queued"}, "warnings": []}


class Both:
    """A call made by either hub, as awaited."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.hub: Any = (AsyncHub if kind == "async" else Hub)(url, "plk_key", retries=QUICK)

    async def __call__(self, name: str, *args: Any, **more: Any) -> Any:
        method = getattr(self.hub, name)
        return await (method(*args, **more) if self.kind == "async" else asyncio.to_thread(method, *args, **more))

    async def all(self, name: str, *args: Any) -> list[Any]:
        items = getattr(self.hub, name)(*args)
        return [item async for item in items] if self.kind == "async" else await asyncio.to_thread(list, items)

    async def close(self) -> None:
        if self.kind == "async":
            await self.hub.close()


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_a_hub_that_stumbles(kind: str) -> None:
    """No answer, 429 and 503: the same reply again, under the same key; what is no reply is not risked."""
    async with failing(None, 429, 503, SENT, None, 503, 409, {"id": "msg_1", "status": "queued"}, 200) as hub:
        both = Both(kind, hub.url)
        assert await both("reply", "cnv_1", "Hi", agent=ANA) == SENT
        assert len({key for _, _, key, _ in hub.asked}) == 1
        assert len({body for *_, body in hub.asked}) == 1
        assert len(hub.asked) == 4
        with pytest.raises(Unreachable, match=f"cannot reach {hub.url}"):
            await both("replay", failed=True)
        with pytest.raises(Problem, match="503 busy"):
            await both("rotate_secret", "+1")
        with pytest.raises(Problem, match="409 busy"):
            await both("connect", "+1")
        assert len(hub.asked) == 7
        assert (await both("outcome", "msg_1", patience=0))["status"] == "queued"
        await both.close()
    gone = Both(kind, hub.url)
    with pytest.raises(Unreachable):
        await gone("disconnect", "+1")
    await gone.close()


@pytest.mark.parametrize("kind", ["async", "blocking"])
async def test_lists_outcomes_and_joining_take_several_requests(kind: str) -> None:
    pages = [{"items": [{"sequence": n}], "next": n and n - 1} for n in (2, 1)]
    async with failing(
        *pages, {"items": [], "next": None},
        {"status": "queued"}, {"status": "sending"}, {"status": "delivered"},
        {"role": "parent", "signing_secret": "whsec_b25l"}, {"role": "parent"},
        {"role": "parent"},
        {"signing_secret": "whsec_dHdv", "overlap_seconds": 60},
        {"role": "parent"}, {"signing_secret": "whsec_dHJlZQ==", "overlap_seconds": 60}, {"role": "parent"},
    ) as hub:  # fmt: skip
        both, store, other = Both(kind, hub.url), client.Store(), client.Store()
        assert await both.all("timeline", "cnv_1") == [{"sequence": 2}, {"sequence": 1}]
        assert [path for _, path, *_ in hub.asked] == [f"{CHAT}/messages{q}" for q in ("", "?before=1", "?before=0")]
        assert (await both("outcome", "msg_1", "sent"))["status"] == "delivered"
        assert (await both("join", "+1", store.secrets, endpoint_url="https://a.example"))["role"] == "parent"
        bodies = [json.loads(body) for *_, body in hub.asked[-2:]]
        assert bodies == [{}, {"endpoint_url": "https://a.example"}]  # the secret first, so that no event comes before
        await both("join", "+1", store.secrets, endpoint_url="https://a.example")
        assert await both("rotate", "+1", store.secrets) == "whsec_dHdv"
        assert store.secrets() == ["whsec_dHdv", "whsec_b25l"]
        await both("join", "+1", other.secrets, endpoint_url="https://a.example")  # lost: another is asked for
        assert other.secrets() == ["whsec_dHJlZQ=="]
        await both.close()


async def test_one_session_is_used_again_and_ends() -> None:
    async with failing(*[{"items": [], "next": None}] * 12) as server:
        async with AsyncHub(server.url, "k") as hub:
            for _ in range(5):
                assert [number async for number in hub.numbers()] == []
            assert len(server.connections) == 1
            session = hub._session
        assert session is not None
        assert session.closed
        given = AsyncHub(server.url, "k", session=(mine := aiohttp.ClientSession()))
        assert [number async for number in given.numbers()] == []
        await given.close()
        assert not mine.closed
        await mine.close()


async def test_a_refusal_that_breaks_off_is_no_answer() -> None:
    """Also of the stream: who follows it goes on by the same errors as with any other call."""

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nhalf")
        writer.close()

    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with AsyncHub(url, "k", retries=NEVER) as hub:
            with pytest.raises(Unreachable):
                async with hub.chunks(calls.stream()):
                    pass
            with pytest.raises(Unreachable):
                await hub.call(calls.events())


async def test_a_hub_that_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        async with AsyncHub(url, "k", timeout=0.05, retries=NEVER) as hub:
            with pytest.raises(Unreachable, match="TimeoutError"):
                await hub.disconnect("+1")
    for wrong in ("", "hub", "ftp://hub", "http://h:x"):
        with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
            AsyncHub(wrong, "k")
