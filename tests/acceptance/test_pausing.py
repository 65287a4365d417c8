"""Connecting with a start and a choice of what becomes of failures; pausing and resuming (rules A5, A8, A10, G3)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.actions import pausing
from hub.domain.ids import parse_id
from hub.store.pool import Database
from tests.support.talk import MIA, audit, automates, leaves, operator_events, roster, writes
from tests.support.wire import ask, connected, until
from tests.support.world import NUMBER, Service, World

OTHER = "+15550002222"


async def texts(service: Service) -> list[str]:
    """What a service was told that customers wrote."""
    return [d.data["message"]["text"] for d in service.endpoint.of("message.received")]


async def change(service: Service, verb: str, body: Any = None) -> dict[str, Any]:
    """Pause or resume; gives the connection as it is then."""
    answer = await service.call("POST", f"/v1/numbers/{NUMBER}/connection/{verb}", body)
    assert answer.status == 200, answer
    return dict(answer.json)


async def subscription_of(world: World, service: Service) -> dict[str, Any]:
    """A service's only connection, as the operator sees it."""
    items = (await world.call("GET", "/v1/admin/subscriptions")).json["items"]
    (found,) = [item for item in items if item["service"]["id"] == service.id]
    return dict(found)


async def test_a5_a_paused_parent_stays_parent_and_gets_all_that_waited(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, text="first")
    paused = await change(helpdesk, "pause")
    assert (paused["role"], paused["state"], paused["paused_reason"]) == ("parent", "paused", "asked")
    assert paused["paused_at"]
    (told,) = await crm.endpoint.hears("service.paused")
    assert told.data["service"] == {"id": helpdesk.id, "name": "helpdesk"}
    assert told.data["reason"] == "asked"
    assert await change(helpdesk, "pause") == paused

    await writes(customer, crm, text="second")
    await writes(customer, crm, text="third")
    assert await texts(helpdesk) == ["first"]
    view = await roster(crm)
    assert (view["parent"]["service_id"], view["parent"]["epoch"]) == (helpdesk.id, 1)
    assert [member["state"] for member in view["subscribers"]] == ["paused", "active"]
    assert (await automates(helpdesk, conversation, "still the parent's bot")).status == 202
    assert (await automates(crm, conversation, "no")).json["code"] == "not_parent"
    assert (await roster(helpdesk))["delivery"]["paused_reason"] == "asked"

    resumed = await change(helpdesk, "resume")
    assert (resumed["state"], resumed["paused_reason"], resumed["paused_at"]) == ("active", None, None)
    await helpdesk.endpoint.hears("message.received", 3)
    assert await texts(helpdesk) == ["first", "second", "third"]
    await helpdesk.endpoint.hears("service.resumed")
    assert len(helpdesk.endpoint.of("service.paused")) == 1
    (told,) = await crm.endpoint.hears("service.resumed")
    assert (told.data["service"]["id"], told.data["mode"]) == (helpdesk.id, "continue")
    assert await change(helpdesk, "resume", {"mode": "skip"}) == resumed
    assert await ask(database_url, "select run from subscription where is_parent") == 0
    kinds = [event["type"] for event in await operator_events(hub_world) if event["type"].startswith("service.")]
    assert kinds[2:] == ["service.paused", "service.resumed"]
    rows = [(row["actor"], row["action"], row["details"]) for row in await audit(hub_world)][-2:]
    assert rows == [
        (helpdesk.id, "service.paused", {"service": helpdesk.id, "reason": "asked"}),
        (helpdesk.id, "service.resumed", {"service": helpdesk.id, "mode": "continue"}),
    ]


async def test_g3_resuming_may_leave_out_what_waited(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm, text="first")
    await change(crm, "pause")
    await writes(customer, helpdesk, text="missed")
    replay = await crm.call("POST", "/v1/replays", {"conversation_id": conversation})
    assert replay.status == 202
    mine = await _subscription_id(database_url, crm)
    async with connected(database_url) as conn:
        await conn.execute(
            """insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at)
               select $1, conversation_id, shard, id, 3, now() + interval '1 hour' from event
               where conversation_id = $2 order by id limit 1""",
            mine,
            parse_id("cnv", conversation),
        )
        await conn.execute(
            "insert into delivery_health (subscription_id, failing_since) values ($1, now()) on conflict "
            "(subscription_id) do update set failing_since = now()",
            mine,
        )
    assert (await subscription_of(hub_world, crm))["delivery"]["parked_lanes"] == 1
    await change(crm, "resume", {"mode": "skip"})
    await writes(customer, helpdesk, crm, text="after")
    (told,) = await helpdesk.endpoint.hears("service.resumed")
    assert told.data["mode"] == "skip"
    live = [d for d in crm.endpoint.of("message.received") if "webhook-replay" not in d.headers]
    assert [d.data["message"]["text"] for d in live] == ["first", "after"]
    async with connected(database_url) as conn:
        assert await conn.fetchval("select count(*) from parked_lane where subscription_id = $1", mine) == 0
        assert await conn.fetchval("select run from subscription where id = $1", mine) == 1
        assert await conn.fetchval("select failing_since from delivery_health where subscription_id = $1", mine) is None
        assert await conn.fetchval("select cancelled_at from replay") is None


async def _subscription_id(database_url: str, service: Service) -> Any:
    sql = "select id from subscription where service_id = $1 and disconnected_at is null"
    return await ask(database_url, sql, parse_id("svc", service.id))


async def test_the_operator_pauses_and_resumes_any_service(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    path = f"/v1/admin/services/{crm.id}/numbers/{NUMBER}"
    for _ in range(2):
        answer = await hub_world.call("POST", f"{path}/pause")
        assert answer.status == 200, answer
        assert answer.json["service"] == {"id": crm.id, "name": "crm"}
        assert (answer.json["delivery"]["state"], answer.json["delivery"]["paused_reason"]) == ("paused", "operator")
    (told,) = await helpdesk.endpoint.hears("service.paused")
    assert (told.data["service"]["id"], told.data["reason"]) == (crm.id, "operator")
    found = await hub_world.call("GET", f"/v1/admin/subscriptions/{answer.json['id']}")
    assert found.json == answer.json
    answer = await hub_world.call("POST", f"{path}/resume", {"mode": "skip"})
    assert (answer.status, answer.json["delivery"]["state"]) == (200, "active")
    actors = [row["actor"] for row in await audit(hub_world) if row["action"] in {"service.paused", "service.resumed"}]
    assert actors == ["operator", "operator"]

    stranger = await hub_world.service("stranger")
    for ending, status, code in (
        (f"{stranger.id}/numbers/{NUMBER}", 409, "not_connected"),
        (f"{crm.id}/numbers/{OTHER}", 409, "not_connected"),
        (f"{crm.id}/numbers/+15559999999", 404, "not_found"),
        (f"svc_x/numbers/{NUMBER}", 404, "not_found"),
    ):
        for verb in ("pause", "resume"):
            answer = await hub_world.call("POST", f"/v1/admin/services/{ending}/{verb}")
            assert (answer.status, answer.json["code"]) == (status, code), ending
    for verb in ("pause", "resume"):
        answer = await stranger.call("POST", f"/v1/numbers/{NUMBER}/connection/{verb}")
        assert (answer.status, answer.json["code"]) == (409, "not_connected")
    for body in ({"mode": "later"}, {"mode": None}, {"how": "skip"}):
        answer = await crm.call("POST", f"/v1/numbers/{NUMBER}/connection/resume", body)
        assert (answer.status, answer.json["code"]) == (422, "invalid_request")


async def test_a5_whoever_pauses_it_is_told_once_and_only_a_resume_ends_it(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    mine, database = await _subscription_id(database_url, crm), Database(lambda: {"dsn": database_url})
    await database.open()

    async def gone() -> int:
        async with database.transaction() as conn:
            return len(await pausing.pause(conn, mine, "gone", datetime.now(UTC)))

    try:
        told = await asyncio.gather(*(gone() for _ in range(5)))
        assert sorted(told) == [0, 0, 0, 0, 1]
        await until(lambda: helpdesk.endpoint.of("service.paused"))
        again = await crm.connect(endpoint_url=crm.endpoint.url, on_exhausted="hold")
        assert (again["state"], again["paused_reason"], again["on_exhausted"]) == ("paused", "gone", "hold")
        assert "signing_secret" not in again
        assert (await roster(crm))["state"] == "paused"
        await leaves(helpdesk)
        view = await roster(crm)
        assert (view["role"], view["state"], view["parent"]["epoch"]) == ("parent", "paused", 2)
        assert [row["actor"] for row in await audit(hub_world) if row["action"] == "service.paused"] == ["hub"]
        await leaves(crm)
        assert await gone() == 0
        await crm.connect()
        assert (await roster(crm))["state"] == "active"
    finally:
        await database.close()


async def test_a_connection_may_begin_at_a_time(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    customer, late = hub_world.customer(MIA), await hub_world.service("late")
    for text in ("one", "two", "three"):
        await writes(customer, helpdesk, text=text)
    at = (await operator_events(hub_world, "message.received"))[1]["timestamp"]

    await late.connect(start_at=at)
    await late.endpoint.hears("message.received", 2)
    assert await texts(late) == ["two", "three"]
    await writes(customer, helpdesk, late, text="four")
    assert await texts(late) == ["two", "three", "four"]
    async with connected(database_url) as conn:
        starts = await conn.fetchval("select start_positions from subscription order by connected_at desc limit 1")
        first = await conn.fetchval("select id from event where type = 'message.received' order by id offset 1 limit 1")
        shard = await conn.fetchval("select shard from event where id = $1", first)
    assert len(starts) == 64
    assert starts[shard] == first - 1

    refused = await late.call("PUT", f"/v1/numbers/{NUMBER}/connection", {"start_at": at})
    assert (refused.status, refused.json["code"]) == (409, "already_connected")
    for bad in ("yesterday", "2026-01-01T00:00:00", 7e40):
        refused = await late.call("PUT", f"/v1/numbers/{OTHER}/connection", {"start_at": bad})
        assert (refused.status, refused.json["code"]) == (422, "invalid_request"), bad
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await late.connect(OTHER, start_at=future)
    assert late.connection["state"] == "active"


async def test_a_start_before_the_log_is_refused_and_nothing_is_made(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    await writes(hub_world.customer(MIA), helpdesk, text="old")
    before = datetime.now(UTC)
    name, high = await _first_partition(database_url)
    await ask(database_url, f"select setval('event_id_seq', {high})")
    await writes(hub_world.customer(MIA), helpdesk, text="new")
    await ask(database_url, f"alter table event detach partition {name}")
    late = await hub_world.service("late")
    for start_at in (before.isoformat(), "2000-01-01T00:00:00Z"):
        answer = await late.call("PUT", f"/v1/numbers/{NUMBER}/connection", {"start_at": start_at})
        assert (answer.status, answer.json["code"]) == (409, "events_expired")
    assert (await roster(late))["role"] is None
    assert answer.json["oldest_event_id"] == f"evt_{high:016x}"
    await late.connect(start_at=answer.json["oldest_at"])
    await late.endpoint.hears("message.received")
    assert await texts(late) == ["new"]


async def _first_partition(database_url: str) -> tuple[str, int]:
    """The first partition of the log, and the id after its last."""
    async with connected(database_url) as conn:
        row = await conn.fetchrow(
            "select name, high::bigint as high from partitions_of('event') order by low::bigint limit 1"
        )
    assert row is not None
    return row["name"], row["high"]


async def test_what_becomes_of_failures_is_a_choice_of_the_connection(hub_world: World, database_url: str) -> None:
    (crm,) = await hub_world.connected("crm")
    assert crm.connection["on_exhausted"] == "continue"
    assert (await crm.connect(on_exhausted="hold"))["on_exhausted"] == "hold"
    assert (await subscription_of(hub_world, crm))["on_exhausted"] == "hold"
    assert (await crm.connect())["on_exhausted"] == "continue"
    refused = await crm.call("PUT", f"/v1/numbers/{NUMBER}/connection", {"on_exhausted": "stop"})
    assert (refused.status, refused.json["code"]) == (422, "invalid_request")


async def test_g3_who_leaves_leaves_no_deliveries_behind(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)
    await change(crm, "pause")
    assert (await crm.call("POST", "/v1/replays", {"conversation_id": conversation})).status == 202
    mine = await _subscription_id(database_url, crm)
    async with connected(database_url) as conn:
        await conn.execute("insert into dead_letter (subscription_id, event_id, attempts) values ($1, 1, 11)", mine)
    await leaves(crm)
    assert await ask(database_url, "select count(*) from dead_letter") == 0
    assert await ask(database_url, "select count(*) from replay_shard where finished_at is null") == 0
    assert await ask(database_url, "select cancelled_at from replay") is not None
    (found,) = (await hub_world.call("GET", "/v1/admin/replays")).json["items"]
    assert (found["state"], found["service_id"]) == ("cancelled", crm.id)
    await crm.connect()
    assert (await crm.call("GET", "/v1/replays")).json["items"] == []


async def test_how_deliveries_go_is_told_of_all_dispatchers_together(hub_world: World, database_url: str) -> None:
    helpdesk = await hub_world.service("helpdesk")
    quiet = {"event_types": ["service.paused"]}
    assert (await helpdesk.call("PUT", f"/v1/numbers/{NUMBER}/connection", quiet)).status == 200
    view = (await roster(helpdesk))["delivery"]
    assert view == {
        "state": "active",
        "paused_reason": None,
        "paused_at": None,
        "breaker": None,
        "retry_at": None,
        "in_flight": 0,
        "lag": None,
        "parked_lanes": 0,
        "attempts": {"delivered": 0, "refused": 0, "failed": 0, "gone": 0},
        "last_delivered_at": None,
        "last_error": None,
        "last_error_at": None,
        "failing_since": None,
        "expired": [],
    }
    mine = await _subscription_id(database_url, helpdesk)
    async with connected(database_url) as conn, connected(database_url) as other, connected(database_url) as dead:
        for held, breaker, retry, waiting, oldest in (
            (conn, "half_open", None, 3, 10),
            (other, "open", 30, 4, 60),
            (dead, "open", 1, 1000, 9000),
        ):
            number = await held.fetchval("select join_dispatchers('1 minute')")
            await held.execute(
                """insert into delivery_state (subscription_id, owner, breaker, retry_at, in_flight, waiting, behind,
                                               oldest_at, parked)
                   values ($1, $2, $3, now() + make_interval(secs => $4), 1, $5, 100,
                           now() - make_interval(secs => $6), 0)""",
                mine,
                number,
                breaker,
                retry,
                waiting,
                oldest,
            )
        await dead.execute("update dispatcher set expires_at = now() where id = $1", number)
        await conn.execute(
            """insert into delivery_health (subscription_id, delivered, refused, failed, gone, last_error)
               values ($1, 5, 4, 3, 2, 'http_500')""",
            mine,
        )
        for upto in range(25):
            await conn.execute(
                "insert into expired_range (subscription_id, after_event_id, upto_event_id) values ($1, $2, $3)",
                mine,
                upto,
                upto + 1,
            )
        view = (await roster(helpdesk))["delivery"]
        seen = (await subscription_of(hub_world, helpdesk))["delivery"]
    assert (view["breaker"], view["in_flight"], view["lag"]["events"]) == ("open", 2, 207)
    assert 60 <= view["lag"]["seconds"] < 120
    assert view["retry_at"] > datetime.now(UTC).isoformat()
    assert view["attempts"] == {"delivered": 5, "refused": 4, "failed": 3, "gone": 2}
    assert view["last_error"] == "http_500"
    assert (len(view["expired"]), view["expired"][0]["upto_event_id"]) == (20, f"evt_{25:016x}")
    assert seen.keys() == view.keys()


async def test_the_operator_pages_through_subscriptions(hub_world: World) -> None:
    services = await hub_world.connected("one", "two", "three")
    first = (await hub_world.call("GET", "/v1/admin/subscriptions?limit=2")).json
    rest = (await hub_world.call("GET", f"/v1/admin/subscriptions?limit=2&after={first['next']}")).json
    items = [*first["items"], *rest["items"]]
    assert [item["service"]["id"] for item in items] == [service.id for service in services]
    assert [item["role"] for item in items] == ["parent", "subscriber", "subscriber"]
    assert (items[0]["number"], items[0]["endpoint_url"]) == (NUMBER, services[0].endpoint.url)
    assert rest["next"] is None
    for bad in ("sub_x", f"sub_{'0' * 32}", services[0].id):
        answer = await hub_world.call("GET", f"/v1/admin/subscriptions/{bad}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
