"""What an operator looks at in the night: deliveries to all, what waits, what was given up, who did what (A8, G3)."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from hub.domain.ids import event_id, parse_id
from hub.store import event_search
from hub.store.event_search import EventFilter
from tests.support.talk import MIA, pages, writes
from tests.support.wire import connected, until
from tests.support.world import NUMBER, Answer, Service, World

DEAD = "/v1/admin/deliveries/dead"
GHOST = f"svc_{'0' * 32}"
GIVE_UP = """
insert into dead_letter (subscription_id, event_id, attempts, last_error) values ($1, $2, 11, 'http_500')"""
PARK = """
insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at, last_error)
select $1, conversation_id, shard, id, 11, 'infinity', 'http_500' from event where id = $2"""
LINK = """
insert into tracked_link (id, token_hash, target, service_id, campaign, created_at)
select gen_random_uuid(), convert_to($1::uuid || $2, 'UTF8'), 'https://shop.example/', $1, $2, now()"""


class Desk:
    """The operator's calls, and the two services that somebody wrote to."""

    def __init__(self, world: World, crm: Service, helpdesk: Service, conn: Any) -> None:
        self.world, self.crm, self.helpdesk, self.conn = world, crm, helpdesk, conn

    async def get(self, path: str) -> Answer:
        return await self.world.call("GET", path)

    async def all(self, path: str, cursor: str = "after") -> list[dict[str, Any]]:
        return await pages(self.get, path, cursor)

    async def subscriptions(self) -> dict[str, UUID]:
        """By service."""
        found = await self.all("/v1/admin/subscriptions?limit=1")
        return {each["service"]["id"]: parse_id("sub", each["id"]) for each in found}

    async def events(self) -> list[int]:
        rows = await self.conn.fetch("select id from event where type = 'message.received' order by id")
        return [row["id"] for row in rows]


@pytest.fixture
async def desk(hub_world: World, database_url: str) -> AsyncIterator[Desk]:
    crm, helpdesk = await hub_world.connected("crm", "helpdesk")
    mia = hub_world.customer(MIA)
    for text in ("one", "two", "three"):
        await writes(mia, crm, helpdesk, text=text)
    async with connected(database_url) as conn:
        yield Desk(hub_world, crm, helpdesk, conn)


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.json["code"]) == (status, code)


async def test_g3_the_operator_sees_all_deliveries(desk: Desk) -> None:
    path = "/v1/admin/deliveries"

    async def seen(query: str) -> set[tuple[str, str]]:
        items = await desk.all(f"{path}?limit=1{query}", "before")
        keys = [(item["event_id"], item["service"]["id"]) for item in items]
        assert len(keys) == len(set(keys)), "an event comes once for each service, also where a page ends between them"
        assert {item["number"] for item in items} <= {NUMBER}
        return set(keys)

    expected = {(event_id(event), one.id) for event in await desk.events() for one in (desk.crm, desk.helpdesk)}

    async def all_are_there() -> bool:
        return expected <= await seen("")

    await until(all_are_there)
    assert {one for _, one in await seen(f"&service_id={desk.crm.id}")} == {desk.crm.id}
    first = min(event for event, _ in expected)
    assert await seen(f"&event_id={first}") == {(first, desk.crm.id), (first, desk.helpdesk.id)}
    assert await seen("&number=%2B15550002222") == set()
    assert await seen("&outcome=failed") == set()
    assert await seen(f"&service_id={GHOST}") == set()

    # The same of what failed: both in one instant.
    subscriptions = await desk.subscriptions()
    for subscription in subscriptions.values():
        await desk.conn.execute(
            """insert into attempt (subscription_id, shard, event_id, at, outcome, http_status, duration_ms)
               select $1, shard, id, date_trunc('second', now()), 'refused', 422, 5 from event
               where type = 'message.received'""",
            subscription,
        )
    assert await seen("&outcome=refused") == expected
    assert await seen(f"&outcome=refused&event_id={first}") == {(first, desk.crm.id), (first, desk.helpdesk.id)}
    for query, status, code in (
        ("before=x", 422, "invalid_request"),
        ("before=2026-01-01T00:00:00Z,evt_1", 422, "invalid_request"),
        ("before=2026-01-01T00:00:00Z,x,sub_1", 422, "invalid_request"),
        ("before=2026-01-01T00:00:00Z,evt_1,x", 404, "not_found"),
        ("outcome=x", 422, "invalid_request"),
        ("event_id=x", 422, "invalid_request"),
        ("service_id=x", 404, "not_found"),
    ):
        assert refused(await desk.get(f"{path}?{query}"), status, code), query
    for where in ("", "/parked", "/dead"):
        assert refused(await desk.crm.call("GET", path + where), 403, "operator_only")


async def test_g3_the_operator_drops_what_was_given_up(desk: Desk) -> None:
    subscriptions, numbers = await desk.subscriptions(), await desk.events()
    for service in (desk.crm, desk.helpdesk):
        answer = await desk.world.call("POST", f"/v1/admin/services/{service.id}/numbers/{NUMBER}/pause")
        assert answer.status == 200
    for subscription in subscriptions.values():
        for number in numbers:
            await desk.conn.execute(GIVE_UP, subscription, number)
        await desk.conn.execute(PARK, subscription, numbers[0])

    dead = await desk.all(f"{DEAD}?limit=1")
    assert [item["event_id"] for item in dead] == [event_id(number) for number in numbers for _ in subscriptions]
    assert {(item["service"]["id"], item["service"]["name"]) for item in dead} == {
        (desk.crm.id, "crm"), (desk.helpdesk.id, "helpdesk"),
    }  # fmt: skip
    assert [item["holds_conversation"] for item in dead] == [True, True, False, False, False, False]
    parked = await desk.all("/v1/admin/deliveries/parked?limit=1")
    assert [(item["held"], item["first_event_id"]) for item in parked] == [(True, event_id(numbers[0]))] * 2
    assert len(await desk.all(f"{DEAD}?service_id={desk.crm.id}&number=%2B15550001111")) == 3
    assert await desk.all(f"{DEAD}?number=%2B15550002222") == []

    drop = f"{DEAD}/{event_id(numbers[0])}"
    assert refused(await desk.world.call("DELETE", drop), 422, "invalid_request"), "whose, must be said"
    assert refused(await desk.world.call("DELETE", f"{drop}?service_id={GHOST}"), 404, "not_found")
    assert (await desk.world.call("DELETE", f"{drop}?service_id={desk.crm.id}")).status == 204
    assert refused(await desk.world.call("DELETE", f"{drop}?service_id={desk.crm.id}"), 404, "not_found")
    assert refused(await desk.world.call("DELETE", f"{DEAD}/x?service_id={desk.crm.id}"), 404, "not_found")
    rest = await desk.all("/v1/admin/deliveries/parked")
    assert {item["service"]["id"]: item["held"] for item in rest} == {desk.crm.id: False, desk.helpdesk.id: True}
    assert refused(await desk.world.call("DELETE", DEAD), 422, "invalid_request"), "not those of everybody"
    for dropped in (2, 0):
        answer = await desk.world.call("DELETE", f"{DEAD}?service_id={desk.crm.id}&number={NUMBER}")
        assert answer.json == {"dropped": dropped}
    assert {item["service"]["id"] for item in await desk.all(DEAD)} == {desk.helpdesk.id}
    for query in ("after=x", "after=evt_1", "after=evt_1,x", "service_id=x", "number=x"):
        assert (await desk.get(f"{DEAD}?{query}")).status in {404, 422}
        assert (await desk.get(f"/v1/admin/deliveries/parked?{query}")).status in {404, 422}

    await check_trail(desk, numbers[0])
    await check_log(desk, numbers)
    await check_campaigns(desk)
    await check_consents(desk)


async def check_trail(desk: Desk, number: int) -> None:
    """It tells whose they were, too; found by what, by whom, about whom and when."""
    rows = await desk.all("/v1/admin/audit?action=dead_letters")
    assert [row["details"] for row in rows] == [
        {"events": 1, "event_id": event_id(number), "service_id": desk.crm.id},
        {"events": 2, "service_id": desk.crm.id},
    ]
    newest = await desk.all("/v1/admin/audit?action=dead_letters.dropped&newest=true&limit=1", "before")
    assert newest == rows[::-1]
    every = await desk.all("/v1/admin/audit?limit=2")
    assert await desk.all("/v1/admin/audit?limit=2&newest=true", "before") == every[::-1]
    assert every == sorted(every, key=lambda row: int(row["id"]))
    about = await desk.all(f"/v1/admin/audit?about={desk.crm.id}")
    assert rows[0] in about
    assert about == [row for row in every if desk.crm.id in str(row)]
    assert {row["actor"] for row in await desk.all(f"/v1/admin/audit?actor={desk.crm.id}")} == {desk.crm.id}
    assert await desk.all("/v1/admin/audit?subject=nobody") == []
    since = rows[0]["at"]
    assert await desk.all(f"/v1/admin/audit?since={since}") == every[every.index(rows[0]) :]
    for order in ("", "&newest=true"):
        before = await desk.all(f"/v1/admin/audit?until={since}{order}", "before" if order else "after")
        assert sorted(before, key=lambda row: int(row["id"])) == every[: every.index(rows[0])]
        assert await desk.all(f"/v1/admin/audit?since=2030-01-01T00:00:00Z{order}") == []
        assert await desk.all(f"/v1/admin/audit?until=0001-01-01T00:00:30Z{order}") == []
    assert refused(await desk.get("/v1/admin/audit?after=1&newest=true"), 422, "invalid_request")
    assert (await desk.get("/v1/admin/audit?before=0")).json == {"items": [], "next": None}


async def check_log(desk: Desk, numbers: list[int]) -> None:
    """Either way, by what happened and where; however little fits, one look goes through so many events and no more."""
    log = await desk.all("/v1/admin/events?limit=2")
    assert await desk.all("/v1/admin/events?limit=2&newest=true", "before") == log[::-1]
    talk = next(event["data"]["conversation"]["id"] for event in log if event["type"] == "message.received")
    for query, of_it in (
        ("type=message.received", lambda event: event["type"] == "message.received"),
        ("number=%2B15550001111", lambda event: True),
        ("number=%2B15550002222", lambda event: False),
        (f"conversation_id={talk}&type=message.received", lambda event: event["type"] == "message.received"),
    ):
        found = await desk.all(f"/v1/admin/events?limit=2&{query}")
        assert found == [event for event in log if of_it(event)], query
        assert await desk.all(f"/v1/admin/events?limit=2&newest=true&{query}", "before") == found[::-1]
    for query in ("after=evt_1&newest=true", "type=x", "before=x"):
        assert refused(await desk.get(f"/v1/admin/events?{query}"), 422, "invalid_request")
    for is_back, place in ((False, 0), (True, 2**62)):
        ids, step, looks = [], place, 0
        while step is not None:
            wanted = EventFilter("message.received")
            events, step = await event_search.search(desk.conn, step, wanted, 50, is_back=is_back, reach=2)
            ids += [event.id for event in events]
            looks += 1
        assert sorted(ids) == numbers
        assert looks == len(log) // 2 + 1


async def check_campaigns(desk: Desk) -> None:
    """They are known by their links."""
    for service, name in ((desk.crm, "spring, early"), (desk.crm, "autumn"), (desk.helpdesk, "spring, early")):
        await desk.conn.execute(LINK, parse_id("svc", service.id), name)
    found = await desk.all("/v1/admin/campaigns?limit=1")
    assert sorted((item["service"]["name"], item["name"]) for item in found) == [
        ("crm", "autumn"), ("crm", "spring, early"), ("helpdesk", "spring, early"),
    ]  # fmt: skip
    assert [item["name"] for item in await desk.all(f"/v1/admin/campaigns?service_id={desk.helpdesk.id}")] == [
        "spring, early"
    ]
    await desk.world.call("PATCH", f"/v1/admin/services/{desk.crm.id}", {"scopes": ["profiles"]})
    own = await pages(lambda path: desk.crm.call("GET", path), "/v1/campaigns?limit=1")
    assert [item["name"] for item in own] == ["autumn", "spring, early"]
    assert refused(await desk.helpdesk.call("GET", "/v1/campaigns"), 403, "missing_scope")
    assert refused(await desk.get("/v1/admin/campaigns?after=x"), 404, "not_found")


async def check_consents(desk: Desk) -> None:
    """Who said what lately."""
    for service, status in ((desk.crm, "granted"), (desk.helpdesk, "revoked")):
        await desk.world.call("PATCH", f"/v1/admin/services/{service.id}", {"scopes": ["reply"]})
        said = {"status": status, "evidence": f"letter to {service.name}"}
        path = f"/v1/consents/sms/+4915112345678{'?number=%2B15550001111' if status == 'granted' else ''}"
        assert (await service.call("PUT", path, said)).status == 200
    found = await desk.all("/v1/admin/consents?limit=1", "before")
    assert [(item["kind"], item["service"]["name"], item["number"], item["evidence"]) for item in found] == [
        ("revoked", "helpdesk", None, "letter to helpdesk"), ("granted", "crm", NUMBER, "letter to crm"),
    ]  # fmt: skip
    assert {item["address"]["value"] for item in found} == {"+4915112345678"}
    for query, expected in (
        ("kind=granted", found[1:]),
        ("medium=whatsapp", []),
        ("number=%2B15550001111", found[1:]),
        ("medium=sms&kind=revoked", found[:1]),
    ):
        assert await desk.all(f"/v1/admin/consents?{query}", "before") == expected
    assert refused(await desk.get("/v1/admin/consents?kind=x"), 422, "invalid_request")
    assert refused(await desk.crm.call("GET", "/v1/admin/consents"), 403, "operator_only")
