"""Pulling and following live: the same events as the webhooks, none lost, in order (rules G4, B6, C1, A10, A11)."""

import asyncio
import json
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from hub.app import running
from hub.domain.events import EventDraft
from hub.domain.ids import new_id, parse_id, public_id
from hub.domain.positions import SHARDS, Positions, decode
from hub.http import events
from hub.store import event_log
from providers.simulator import Number, Simulator, meta_webhooks
from tests.support.cut import line_to
from tests.support.talk import MIA, leaves
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Service, World, settings_for, world

OTHER = "+15550002222"


# What a service does ------------------------------------------------------------------------------------------------


async def pull(service: Service, query: str = "") -> dict[str, Any]:
    """One page of the feed."""
    answer = await service.call("GET", f"/v1/events{query}")
    assert answer.status == 200, answer
    return dict(answer.json)


async def pull_all(service: Service, query: str = "?limit=200") -> tuple[list[dict[str, Any]], str]:
    """Page after page until there is no more; gives the events and the cursor behind them."""
    found: list[dict[str, Any]] = []
    while True:
        page = await pull(service, query)
        found += page["items"]
        query = f"?limit=200&after={page['next']}"
        if not page["has_more"]:
            return found, page["next"]


async def listens(service: Service, number: str = NUMBER, **wanted: Any) -> None:
    """Connect without an endpoint (A11)."""
    answer = await service.call("PUT", f"/v1/numbers/{number}/connection", wanted)
    assert answer.status == 200, answer
    service.connection = answer.json


@dataclass
class Frame:
    """One server-sent event, or what stands in for one."""

    id: str | None = None
    event: str | None = None
    data: bytes | None = None
    comment: str | None = None


@dataclass
class Live:
    """A live stream, read frame by frame."""

    response: aiohttp.ClientResponse
    frames: list[Frame] = field(default_factory=list)

    @property
    def cursor(self) -> str:
        """What a browser would send as Last-Event-ID now."""
        return [frame.id for frame in self.frames if frame.id is not None][-1]

    def latest(self) -> str | None:
        """The id of the last event."""
        found = [json.loads(frame.data)["data"]["event_id"] for frame in self.frames if frame.data]
        return found[-1] if found else None

    async def frame(self) -> Frame:
        """The next frame, which no heartbeat brings. Raises EOFError where the stream ends."""
        made = Frame()
        async with asyncio.timeout(10):
            while line := (await self.response.content.readline()):
                if line == b"\n":
                    self.frames.append(made)
                    return made
                name, _, value = line.rstrip(b"\n").partition(b": ")
                if name == b"data":
                    made.data = value
                elif name in {b"id", b"event"}:
                    setattr(made, name.decode(), value.decode())
                elif not name:
                    made.comment = value.decode()
        raise EOFError

    async def event(self) -> dict[str, Any]:
        """The next event, whatever else comes before."""
        while True:
            frame = await self.frame()
            if frame.data is not None:
                assert frame.event
                return {"type": frame.event} | json.loads(frame.data)

    async def take(self, count: int) -> list[dict[str, Any]]:
        """So many events."""
        return [await self.event() for _ in range(count)]

    async def ends(self) -> None:
        """Wait until the hub closes it in good order."""
        with suppress(EOFError):
            async with asyncio.timeout(10):
                while True:
                    await self.frame()


def opening(service: Service, query: str = "", **headers: str) -> Any:
    """The request for a stream."""
    return service.world.session.get(
        f"{service.world.hub.url}/v1/events/stream{query}",
        headers={"Authorization": f"Bearer {service.key}", "Accept-Encoding": "gzip", **headers},
        timeout=aiohttp.ClientTimeout(),
    )


@asynccontextmanager
async def live(service: Service, query: str = "", **headers: str) -> AsyncIterator[Live]:
    """An open stream; its first frame, with the cursor, is read."""
    async with opening(service, query, **headers) as response:
        assert response.status == 200, await response.text()
        made = Live(response)
        first = await made.frame()
        assert first.data is not None or first.id
        yield made


def ids(found: Iterable[dict[str, Any]]) -> list[str]:
    return [event["data"]["event_id"] for event in found]


def texts(found: Iterable[dict[str, Any]]) -> list[str]:
    return [event["data"]["message"].get("text") for event in found if event["type"] == "message.received"]


# What happens -------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """Writes straight into the event log of a hub, as another process of it would."""

    url: str
    channel: UUID
    sequences: dict[UUID, int] = field(default_factory=lambda: defaultdict(int))

    def drafts(self, lanes: Sequence[UUID], *, size: int = 0) -> list[EventDraft]:
        """The next event of each of these conversations."""
        made = []
        for lane in lanes:
            self.sequences[lane] += 1
            data = {
                "channel_id": public_id("chn", self.channel),
                "conversation": {"id": public_id("cnv", lane)},
                "filler": "x" * size,
            }
            made.append(
                EventDraft(
                    type="message.status",
                    lane=lane,
                    at=datetime.now(UTC),
                    data=data,
                    channel_id=self.channel,
                    conversation_id=lane,
                    sequence=self.sequences[lane],
                )
            )
        return made

    async def write(self, *lanes: UUID, size: int = 0) -> list[int]:
        """Append in one transaction; gives the ids."""
        async with connected(self.url) as conn, conn.transaction():
            return [event.id for event in await event_log.append(conn, self.drafts(lanes, size=size))]


def log_of(service: Service, database_url: str) -> Log:
    return Log(database_url, parse_id("chn", service.connection["channel_id"]))


def lane_of(shard: int) -> UUID:
    """A conversation whose events go to this shard."""
    return UUID(int=(new_id().int & ~(SHARDS - 1)) | shard)


def assert_complete(found: Sequence[dict[str, Any]], log: Log) -> None:
    """B6: of each conversation every event, once, in order, its numbers without a gap."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in found:
        conversation = event["data"]["conversation"]
        numbers[conversation["id"]].append(conversation["sequence"])
    assert numbers == {public_id("cnv", lane): [*range(1, last + 1)] for lane, last in log.sequences.items()}


# The same as the webhooks -------------------------------------------------------------------------------------------


@asynccontextmanager
async def recorder() -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """An endpoint that keeps the bodies it gets, by webhook-id."""
    bodies: dict[str, bytes] = {}

    async def take(request: web.Request) -> web.Response:
        bodies[request.headers["webhook-id"]] = await request.read()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", bodies
    finally:
        await runner.cleanup()


async def test_g4_feed_and_stream_show_what_the_webhooks_say(hub_world: World) -> None:
    """C1: byte for byte, with other services' content masked and the payloads of their buttons left out."""
    helpdesk, crm = services = [await hub_world.service(name) for name in ("helpdesk", "crm")]
    async with AsyncExitStack() as stack:
        posted: dict[str, dict[str, bytes]] = {}
        streams: dict[str, Live] = {}
        for service in services:
            url, posted[service.id] = await stack.enter_async_context(recorder())
            await service.connect(endpoint_url=url)
            streams[service.id] = await stack.enter_async_context(live(service))
        customer = hub_world.customer(MIA)
        await customer.says("Hello")
        conversation = await until(lambda: _conversation(helpdesk))
        for author, words in ((helpdesk, "§1"), (crm, "§2")):
            assert (await author.reply(conversation, words)).status == 202
        asked = (await customer.hears()).provider_id
        await customer.sends(meta_webhooks.button_reply("§row", "Yes"), reply_to=asked)
        await until(lambda: _is_settled(helpdesk))
        for service in services:
            bodies, stream = posted[service.id], streams[service.id]
            pulled, _ = await pull_all(service)
            await until(lambda bodies=bodies, pulled=pulled: len(bodies) >= len(pulled))
            assert pulled == [json.loads(bodies[event]) for event in ids(pulled)]
            assert set(bodies) == set(ids(pulled))
            raw = await _raw(service, "/v1/events?limit=200")
            assert all(body in raw for body in bodies.values())
            while stream.latest() != ids(pulled)[-1]:
                await stream.event()
            frames = [frame for frame in stream.frames if frame.data]
            assert len(frames) >= 10
            for frame, event in zip(frames, pulled[-len(frames) :], strict=True):
                assert frame.data == bodies[event["data"]["event_id"]]
                assert frame.event == event["type"]
            told = json.dumps(pulled, ensure_ascii=False)
            assert [word in told for word in ("§1", "§row", "§2")] == [service is helpdesk] * 2 + [service is crm]
            assert sum("masked" in event["data"].get("message", {}) for event in pulled) >= 5
            assert "Yes" in told


async def _conversation(service: Service) -> str | None:
    items = (await service.call("GET", "/v1/conversations")).json["items"]
    return str(items[0]["id"]) if items else None


async def _is_settled(service: Service) -> bool:
    """Both replies were read, and the tapped button has arrived."""
    found, _ = await pull_all(service)
    read = [e for e in found if e["type"] == "message.status" and e["data"]["message"]["status"] == "read"]
    return len(read) == 2 and len(texts(found)) == 2


async def _raw(service: Service, path: str) -> bytes:
    headers = {"Authorization": f"Bearer {service.key}"}
    async with service.world.session.get(service.world.hub.url + path, headers=headers) as answer:
        return await answer.read()


# Page by page -------------------------------------------------------------------------------------------------------


async def test_a11_a_service_without_an_endpoint_lives_on_the_feed(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    customer = hub_world.customer(MIA)
    await customer.says("before")
    await helpdesk.endpoint.hears("message.received")
    archive = await hub_world.service("archive")
    assert (await archive.call("GET", "/v1/events")).json["code"] == "not_connected"
    await listens(archive)
    page = await pull(archive)
    assert [e["type"] for e in page["items"]] == ["service.connected"]  # A10: from the head on
    assert page["has_more"] is False
    assert set(page) == {"items", "next", "has_more"}
    at = page["next"]
    assert (await pull(archive, f"?after={at}")) == {"items": [], "next": at, "has_more": False}
    for n in range(5):
        await customer.says(f"{n}")
    assert texts((await pull(archive, f"?after={at}"))["items"]) == [*"01234"]
    first = await pull(archive, f"?after={at}&limit=4")
    assert (texts(first["items"]), first["has_more"]) == ([*"0123"], True)
    last = await pull(archive, f"?after={first['next']}&limit=1")
    assert (texts(last["items"]), last["has_more"]) == (["4"], False)  # exactly full is not more
    assert texts((await pull_all(archive))[0]) == [*"01234"]  # without a cursor: from where it connected, every time
    history, _ = await pull_all(archive, "?since=2000-01-01T00:00:00Z")
    assert texts(history) == ["before", *"01234"]
    assert [e["data"]["conversation"]["sequence"] for e in history if "conversation" in e["data"]] == [*range(1, 7)]

    pause = "update subscription set state = 'paused', paused_at = now(), paused_reason = 'asked' where service_id = $1"
    await ask(database_url, pause, parse_id("svc", archive.id))
    await customer.says("paused")
    assert texts((await pull(archive, f"?after={last['next']}"))["items"]) == ["paused"]

    await leaves(archive)
    await customer.says("gone")
    for query in ("", f"?after={at}", f"?after={at}&number={quote(NUMBER)}", "?since=2000-01-01T00:00:00Z"):
        answer = await archive.call("GET", f"/v1/events{query}")
        assert (answer.status, answer.json["code"]) == (409, "not_connected")
    await listens(archive)
    await customer.says("back")
    assert texts((await pull_all(archive))[0]) == ["back"]
    assert texts((await pull_all(archive, f"?after={at}"))[0]) == ["back"]  # A10, also by an old cursor
    late = await hub_world.service("late")
    await listens(late, start_at="2000-01-01T00:00:00Z")
    assert texts((await pull_all(late))[0]) == ["before", *"01234", "paused", "gone", "back"]


async def test_g5_each_number_has_its_own_filter(hub_world: World) -> None:
    service, other = [await hub_world.service(name) for name in ("archive", "standalone")]
    await listens(service, NUMBER, event_types=["message.received"])
    await listens(service, OTHER)
    await listens(other, OTHER)
    one, two = hub_world.customer(MIA), hub_world.customer(MIA, OTHER)
    _, at = await pull_all(service)
    await one.says("one")
    await two.says("two")
    conversations = {c["number"]: c["id"] for c in (await service.call("GET", "/v1/conversations")).json["items"]}
    for conversation in conversations.values():
        assert (await service.reply(conversation, "?")).status == 202
    await one.hears()
    await two.hears()
    kinds = await until(lambda: _both_read(service, at))
    assert set(kinds) == {
        (NUMBER, "message.received"),
        (OTHER, "message.received"),
        (OTHER, "message.queued"),
        (OTHER, "message.status"),
    }
    for spelling in (quote(OTHER), OTHER, OTHER[1:]):
        items = (await pull(service, f"?after={at}&number={spelling}"))["items"]
        assert {e["data"]["number"] for e in items} == {OTHER}
    async with live(service, f"?after={at}&number={quote(NUMBER)}") as stream:
        assert stream.frames[0].event == "message.received"
        assert json.loads(stream.frames[0].data or b"")["data"]["number"] == NUMBER
    assert {e["data"]["number"] for e in (await pull_all(other))[0]} == {OTHER}
    refused = await other.call("GET", f"/v1/events?number={quote(NUMBER)}")
    assert (refused.status, refused.json["code"]) == (409, "not_connected")


async def _both_read(service: Service, at: str) -> list[tuple[str, str]]:
    """What came on which number, once the answer on the unfiltered one was read."""
    found, _ = await pull_all(service, f"?after={at}")
    is_read = any(e["data"].get("message", {}).get("status") == "read" for e in found)
    return [(e["data"]["number"], e["type"]) for e in found] if is_read else []


async def test_what_is_asked_wrongly_is_told(hub_world: World) -> None:
    service = await hub_world.service("archive")
    await listens(service)
    at = (await pull(service))["next"]
    ahead = Positions((10**12,) * SHARDS).encode()
    for query, status, code in (
        ("?after=", 422, "invalid_cursor"),
        ("?after=nonsense", 422, "invalid_cursor"),
        (f"?after={at[:-1]}", 422, "invalid_cursor"),
        (f"?after={at}A", 422, "invalid_cursor"),
        (f"?after={at.swapcase()}", 422, "invalid_cursor"),
        (f"?after={ahead}", 422, "invalid_cursor"),
        (f"?after={at}&since=2026-01-01T00:00:00Z", 422, "invalid_request"),
        ("?since=yesterday", 422, "invalid_request"),
        ("?since=0001-01-01T00:00:00%2B14:00", 422, "invalid_request"),
        ("?number=%2B15559999999", 404, "not_found"),
        ("?number=", 404, "not_found"),
    ):
        for path in ("/v1/events", "/v1/events/stream"):
            answer = await service.call("GET", path + query)
            assert (answer.status, answer.json["code"]) == (status, code), (path, query)
    for query in ("?limit=0", "?limit=201", "?limit=x"):
        assert (await service.call("GET", f"/v1/events{query}")).status == 422
    assert (await service.call("GET", "/v1/events/stream", **{"Last-Event-ID": "x"})).json["code"] == "invalid_cursor"
    for query in ("?since=0001-01-01T00:00:00Z", "?since=9999-12-31T23:59:59Z", "?since=2026-01-01"):
        assert (await service.call("GET", f"/v1/events{query}")).status == 200
    writer = await hub_world.service("writer", scopes=["reply"])
    await listens(writer)
    for path in ("/v1/events", "/v1/events/stream"):
        assert (await writer.call("GET", path)).json["code"] == "missing_scope"
        assert (await hub_world.call("GET", path)).status == 401  # the operator's key is no service's
        assert (await hub_world.call("HEAD", path)).status in {401, 405}


async def test_since_begins_at_a_time(hub_world: World, database_url: str) -> None:
    service = await hub_world.service("archive")
    await listens(service)
    log, lanes = log_of(service, database_url), [lane_of(shard) for shard in (1, 2, 3)]
    for _ in range(4):
        await log.write(*lanes)
    # An hour between one round and the next; of the last one's, one was written a little before its neighbours.
    await ask(
        database_url, "update event set created_at = now() - interval '1 hour' * (5 - sequence) where sequence > 0"
    )
    await ask(
        database_url, "update event set created_at = created_at - interval '9 s' where sequence = 4 and shard = 2"
    )
    last = await ask(database_url, "select created_at from event where sequence = 4 and shard = 1")
    for since, wanted in (
        (last, [4, 4]),
        (last - timedelta(seconds=9), [4, 4, 4]),
        (last - timedelta(hours=1), [3, 3, 3, 4, 4, 4]),
        (last - timedelta(days=9), [n for n in range(1, 5) for _ in lanes]),
        (last + timedelta(microseconds=1), []),
    ):
        query, found = f"?limit=2&since={quote(since.isoformat())}", []
        while True:  # what is older stays out on every page
            page = await pull(service, query)
            found += page["items"]
            query = f"?limit=2&after={page['next']}"
            if not page["has_more"]:
                break
        numbers = [e["data"]["conversation"]["sequence"] for e in found if e["type"] == "message.status"]
        assert numbers == wanted, since


WRITERS, ROUNDS = 8, 30


async def test_b6_nothing_is_lost_between_eight_writers(hub_world: World, database_url: str) -> None:
    """Pages of one to seven events and a live stream, while others commit, and a neighbour's events lie in between."""
    service, neighbour = await hub_world.service("archive"), await hub_world.service("shop", plan="standalone")
    await listens(service)
    await listens(neighbour)
    logs = [log_of(service, database_url), log_of(neighbour, database_url)]
    assert logs[0].channel != logs[1].channel
    begin, is_done = [(await pull_all(one))[1] for one in (service, neighbour)], asyncio.Event()

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        lanes = [(log, new_id()) for log in logs for _ in range(5)]
        async with connected(database_url) as conn:
            for _ in range(ROUNDS):
                chosen = chance.choices(lanes, k=chance.randint(1, 6))
                async with conn.transaction():
                    await event_log.append(conn, [log.drafts([lane])[0] for log, lane in chosen])
                    if chance.random() < 0.5:  # let others draw ids before this commits
                        await conn.execute("select pg_sleep($1)", chance.random() / 100)

    async def follow(one: Service, at: str, seed: int) -> list[dict[str, Any]]:
        chance, found = random.Random(seed), []
        while True:
            was_done = is_done.is_set()
            page = await pull(one, f"?after={at}&limit={chance.randint(1, 7)}")
            assert ids(page["items"]) == sorted(ids(page["items"]))
            at = page["next"]
            found += page["items"]
            if was_done and not page["has_more"]:
                return found

    async with live(service, f"?after={begin[0]}") as stream:
        readers = [follow(one, at, 3) for one, at in zip((service, neighbour), begin, strict=True)]
        reading = [asyncio.create_task(reader) for reader in readers]
        await asyncio.gather(*map(write, range(WRITERS)))
        is_done.set()
        for log, task in zip(logs, reading, strict=True):
            assert_complete(await task, log)
        assert_complete(await stream.take(sum(logs[0].sequences.values())), logs[0])


async def test_an_event_that_commits_late_is_not_missed(hub_world: World, database_url: str) -> None:
    """Its id was drawn before those of others that were read long ago."""
    service = await hub_world.service("archive")
    await listens(service)
    log, early, late = log_of(service, database_url), lane_of(7), lane_of(9)
    _, at = await pull_all(service)
    async with live(service) as stream, connected(database_url) as conn:
        held = conn.transaction()
        await held.start()
        (waiting,) = await event_log.append(conn, log.drafts([early]))
        others = [await log.write(late) for _ in range(3)]
        assert waiting.id < others[0][0]
        page = await pull(service, f"?after={at}")
        assert (len(page["items"]), page["has_more"]) == (3, False)
        assert ids(await stream.take(3)) == ids(page["items"])
        more = await pull(service, f"?after={page['next']}")
        assert more["items"] == []
        await held.commit()
        (found,) = (await pull(service, f"?after={more['next']}"))["items"]
        assert found["data"]["event_id"] == f"evt_{waiting.id:016x}"
        assert await stream.event() == found
        async with live(service, **{"Last-Event-ID": stream.frames[-2].id or ""}) as again:
            assert json.loads(again.frames[0].data or b"") == found
        assert ids((await pull_all(service, f"?after={at}"))[0]) == sorted([*ids(page["items"]), *ids([found])])


async def test_foreign_events_are_passed_over_for_good(hub_world: World, database_url: str) -> None:
    """However many there are: a page takes bounded work, and the next one begins behind them."""
    service, neighbour = await hub_world.service("archive"), await hub_world.service("shop", plan="standalone")
    await listens(service)
    await listens(neighbour)
    _, at = await pull_all(service)
    theirs, mine = log_of(neighbour, database_url), log_of(service, database_url)
    await theirs.write(*(new_id() for _ in range(7000)))
    (wanted,) = await mine.write(lane_of(3))
    first = await pull(service, f"?after={at}")
    assert (first["items"], first["has_more"]) == ([], True)
    second = await pull(service, f"?after={first['next']}")
    assert (ids(second["items"]), second["has_more"]) == ([f"evt_{wanted:016x}"], False)
    last = await ask(database_url, "select max(id) from event")
    assert decode(second["next"]).highest == last
    heads = await ask(database_url, "select array_agg(h) from (select max(id) h from event group by shard) x")
    assert set(heads) <= set(decode(second["next"]).at)


async def test_g3_what_retention_dropped_is_told(hub_world: World, database_url: str) -> None:
    service = await hub_world.service("archive")
    await listens(service)
    log, lanes = log_of(service, database_url), [lane_of(shard) for shard in range(5)]
    await log.write(*lanes)
    half = (await pull(service, "?limit=3"))["next"]
    _, behind = await pull_all(service)
    assert decode(half).highest < decode(behind).highest < 100
    await ask(database_url, "select setval('event_id_seq', 1200000)")
    (kept,) = await log.write(lanes[2])  # nothing ever comes in the other shards again
    _, ahead = await pull_all(service)
    await ask(database_url, "drop table event_0")
    wanted = {"after_event_id": f"evt_{decode(half).highest:016x}", "upto_event_id": f"evt_{999_999:016x}"}
    for query in (f"?after={half}", f"?after={half}&limit=1"):
        page = await pull(service, query)
        assert ids(page["items"]) == [f"evt_{kept:016x}"]
        assert page["expired"] == wanted
        again = await pull(service, f"?after={page['next']}")
        assert (again["items"], "expired" in again) == ([], False)
    assert (await pull(service, f"?after={behind}"))["expired"][
        "after_event_id"
    ] == f"evt_{decode(behind).highest:016x}"
    assert (await pull(service))["expired"]["after_event_id"] < wanted["after_event_id"]
    assert "expired" in await pull(service, "?since=2000-01-01T00:00:00Z")
    assert "expired" not in await pull(service, f"?after={ahead}")  # it had read all of it
    async with live(service) as stream:
        assert stream.frames[0].event is None
    async with live(service, **{"Last-Event-ID": half}) as stream:
        assert (stream.frames[0].event, json.loads(stream.frames[0].data or b"")) == ("expired", wanted)
        assert ids([await stream.event()]) == [f"evt_{kept:016x}"]
        assert decode(stream.cursor).highest == kept


# Live ---------------------------------------------------------------------------------------------------------------


async def test_a_stream_begins_now_and_goes_on_where_it_was_cut(hub_world: World, database_url: str) -> None:
    service = await hub_world.service("archive")
    await listens(service)
    log, lanes = log_of(service, database_url), [new_id() for _ in range(9)]
    await log.write(*lanes)
    log.sequences.clear()
    async with live(service) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert "Content-Encoding" not in headers
        at = stream.cursor  # before there is any event: a stream that is cut now loses nothing
        await log.write(*lanes)
        first = await stream.take(4)
    heard = first
    for _ in range(3):  # cut in the middle of a page, each time
        async with live(service, f"?after={at}", **{"Last-Event-ID": stream.cursor}) as stream:
            await log.write(*lanes)
            frames = [f for f in stream.frames if f.data]
            heard += [json.loads(f.data or b"") for f in frames] + await stream.take(13 - len(frames))
    async with live(service, **{"Last-Event-ID": stream.cursor}) as stream:
        rest = [json.loads(f.data or b"") for f in stream.frames if f.data]
        while len({*ids(heard), *ids(rest)}) < sum(log.sequences.values()):
            rest.append(await stream.event())
    once = {event["data"]["event_id"]: event for event in heard + rest}
    assert len(once) < len(heard + rest)  # a page is repeated
    assert_complete([once[event_id] for event_id in sorted(once)], log)
    pulled, _ = await pull_all(service, f"?after={at}&limit=200")
    assert ids(pulled) == sorted(once)


async def test_a_stream_follows_connections_and_ends_with_the_last(hub_world: World) -> None:
    service, other = [await hub_world.service(name) for name in ("archive", "crm")]
    refused = await service.call("GET", "/v1/events/stream")
    assert (refused.status, refused.json["code"]) == (409, "not_connected")
    await listens(service)
    await listens(other)
    async with live(service) as stream, live(service, f"?number={quote(NUMBER)}") as narrow, live(other) as others:
        await listens(service, OTHER)
        assert (await stream.event())["type"] == "service.connected"
        await hub_world.customer(MIA, OTHER).says("other")
        assert texts([await stream.event(), await stream.event()]) == ["other"]  # behind channel.parent_changed
        await leaves(service)
        await narrow.ends()
        assert [e["type"] for e in await others.take(2)] == ["service.disconnected", "channel.parent_changed"]
        await hub_world.customer(MIA).says("one")
        assert texts([await others.event()]) == ["one"]
        await hub_world.customer(MIA, OTHER).says("two")
        assert texts([await stream.event()]) == ["two"]  # and nothing of what happened on the number it left
        await leaves(service, OTHER)
        await stream.ends()


async def test_streams_are_counted_and_end_when_their_key_is_revoked(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that went away leave their place to others. The key is looked at with every heartbeat and every page."""
    service, other = [await hub_world.service(name) for name in ("archive", "crm")]
    await listens(service)
    await listens(other)
    monkeypatch.setattr(events, "MOST_STREAMS", 3)
    for _ in range(2):
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(live(service))
            refused = await service.call("GET", "/v1/events/stream")
            assert (refused.status, refused.json["code"]) == (429, "too_many_streams")
            await stack.enter_async_context(live(other))
            assert events.OPEN._value.get() == 4
        await until(lambda: not events.OPEN._value.get())
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    async with live(service) as stream, live(other) as others:
        for _ in range(3):
            assert (await others.frame()).comment == "still here"
        revoke = "update api_key set revoked_at = now() where service_id = $1"
        await ask(database_url, revoke, parse_id("svc", service.id))
        await stream.ends()
        assert (await others.frame()).comment
        await ask(database_url, "update service set scopes = '{reply}' where id = $1", parse_id("svc", other.id))
        await others.ends()


async def test_a_slow_reader_does_not_fill_the_memory(
    hub_world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page is read only when this one was taken; what was not taken is written when the reader comes back."""
    service = await hub_world.service("archive")
    await listens(service)
    log, lanes, pages, read_page = log_of(service, database_url), [new_id() for _ in range(50)], 0, events.read_page
    _, at = await pull_all(service)
    for _ in range(14):
        await log.write(*lanes, *lanes, size=20_000)

    async def counted(*args: Any) -> Any:
        nonlocal pages
        pages += 1
        return await read_page(*args)

    monkeypatch.setattr(events, "read_page", counted)
    reader, writer = await idle_reader(service, at)
    await until(lambda: pages)
    seen = 0
    while seen != pages:
        seen = pages
        await asyncio.sleep(0.3)
    assert 0 < pages < 10  # of the 14 and more that 28 MB are
    found: set[bytes] = set()
    async with asyncio.timeout(30):
        while len(found) < 1400:
            line = await reader.readline()
            if line.startswith(b"data: "):
                found.add(line.partition(b'"event_id":"')[2][:20])
    assert pages >= 14
    writer.close()
    await until(lambda: not events.OPEN._value.get())

    monkeypatch.setattr(events, "STALLED", 0.2)  # and one that never comes back
    reader, writer = await idle_reader(service, at)
    await until(lambda: events.OPEN._value.get() == 1)
    await until(lambda: events.OPEN._value.get() == 0)
    async with asyncio.timeout(10):
        assert not (await reader.read()).endswith(b"0\r\n\r\n")  # cut off, not ended
    writer.close()


async def idle_reader(service: Service, at: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream after this cursor, of which nothing is taken until it is read."""
    parts = urlsplit(service.world.hub.url)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    slow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(slow, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=slow, limit=65_536)
    asked = f"GET /v1/events/stream?after={at} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {service.key}\r\n\r\n"
    writer.write(asked.encode())
    return reader, writer


async def test_a_stream_ends_when_the_hub_stops(database_url: str, tmp_path: Path) -> None:
    number = Number(NUMBER, PHONE_NUMBER_ID)
    async with (
        aiohttp.ClientSession() as session,
        Simulator(numbers=[number], public_url="https://h.example") as simulator,
    ):
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(running(settings_for(simulator, database_url, tmp_path)))
            made = World(hub, simulator, session)
            senders = [{"medium": "whatsapp", "provider": "meta", "external_id": PHONE_NUMBER_ID}]
            assert (await made.call("POST", "/v1/admin/numbers", {"e164": NUMBER, "senders": senders})).status == 201
            service = await made.service("archive")
            await listens(service)
            async with live(service) as stream, live(service) as another:
                stopping = asyncio.create_task(stack.aclose())
                await stream.ends()
                await another.ends()
                await stopping
        for subscriber in made.subscribers:
            await subscriber.stop()


async def test_a_stream_outlives_the_database_s_absence(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAUSE", 0.05)
    async with line_to(database_url) as (url, line), world(url, tmp_path) as made:
        service = await made.service("archive")
        await listens(service)
        log, lane = log_of(service, database_url), new_id()
        async with live(service) as stream:
            await log.write(lane)
            heard = await stream.take(1)
            await line.down()
            await log.write(lane)
            assert (await service.call("GET", "/v1/events")).status == 503
            await line.up()
            await log.write(lane)
            assert_complete(heard + await stream.take(2), log)
