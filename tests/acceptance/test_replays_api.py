"""What was attempted, dead letters, parked lanes and replays over the API: what is asked for, refused, and written down
for the dispatchers. The service is paused, so that none of them is at work on it meanwhile.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from hub.actions import delivery_view
from hub.domain.ids import event_id, parse_id, shard_of
from hub.store.deliveries import Delivered, pack
from providers.simulator import Person
from tests.support.talk import MIA, audit, pages, writes
from tests.support.world import NUMBER, Answer, Service, World

OTHER = "+15550002222"
GHOST = "0" * 32
BOB = Person("+4915187654321", name="Bob")


@dataclass
class Stage:
    """Two services; crm is paused and has heard two conversations of three messages each."""

    world: World
    crm: Service
    helpdesk: Service
    conn: Any
    subscription: UUID
    mia: str
    bob: str

    async def events(self, conversation: str | None = None, kind: str = "message.received") -> list[int]:
        """Ids of the log's events."""
        lane = parse_id("cnv", conversation) if conversation else None
        rows = await self.conn.fetch(
            "select id from event where type = $1 and ($2::uuid is null or conversation_id = $2) order by id",
            kind,
            lane,
        )
        return [row["id"] for row in rows]

    async def spans(self, replay: str) -> dict[int, tuple[int, int]]:
        """What was written down for the dispatchers: position and end per shard."""
        rows = await self.conn.fetch(
            "select shard, position, upto from replay_shard where replay_id = $1", parse_id("rpl", replay)
        )
        return {row["shard"]: (row["position"], row["upto"]) for row in rows}

    async def row(self, replay: str) -> dict[str, Any]:
        """A replay as it was written down."""
        return dict(await self.conn.fetchrow("select * from replay where id = $1", parse_id("rpl", replay)))

    async def ask(self, **body: Any) -> dict[str, Any]:
        """Ask for a replay; gives it."""
        answer = await self.crm.call("POST", "/v1/replays", body)
        assert answer.status == 202, answer
        return dict(answer.json)

    async def covered(self, replay: str) -> set[int]:
        """Messages of the log that lie within a replay's spans."""
        spans, found = await self.spans(replay), set()
        for row in await self.conn.fetch("select id, shard from event where type = 'message.received'"):
            position, upto = spans.get(row["shard"], (0, 0))
            if position < row["id"] <= upto:
                found.add(row["id"])
        return found

    async def give_up(self, number: int, *, attempts: int = 11, is_held: bool = False) -> None:
        """An event that was tried for three days."""
        await self.conn.execute(
            "insert into dead_letter (subscription_id, event_id, attempts, last_error) values ($1, $2, $3, 'http_500')",
            self.subscription,
            number,
            attempts,
        )
        await self.park(number, "infinity" if is_held else None, attempts)

    async def park(self, number: int, due: str | None, attempts: int = 3) -> None:
        """A lane that waits at this event; None: not any more."""
        if due is not None:
            await self.conn.execute(
                f"""insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at,
                                             last_error)
                    select $1, conversation_id, shard, id, $3, '{due}', 'http_422' from event where id = $2""",
                self.subscription,
                number,
                attempts,
            )

    async def lanes(self) -> dict[int, tuple[int, bool]]:
        """Parked lanes by their first event: attempts, and whether they may go on now."""
        rows = await self.conn.fetch(
            "select first_event_id, attempts, next_attempt_at <= now() as is_due from parked_lane order by 1"
        )
        return {row["first_event_id"]: (row["attempts"], row["is_due"]) for row in rows}

    async def version(self) -> int:
        """What tells dispatchers to look."""
        return int(await self.conn.fetchval("select version from roster_version"))


@pytest.fixture
async def stage(hub_world: World, database_url: str) -> AsyncIterator[Stage]:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    mia, bob = hub_world.customer(MIA), hub_world.customer(BOB)
    await crm.call("POST", f"/v1/numbers/{NUMBER}/connection/pause")
    for turn in range(3):
        first = await writes(mia, helpdesk, text=f"mia {turn}")
        second = await writes(bob, helpdesk, text=f"bob {turn}")
    conn = await asyncpg.connect(database_url)
    own = await conn.fetchval("select id from subscription where service_id = $1", parse_id("svc", crm.id))
    yield Stage(hub_world, crm, helpdesk, conn, own, first, second)
    await conn.close()


def refused(answer: Answer, status: int, code: str) -> bool:
    """Whether a request was refused so."""
    assert (answer.status, answer.json["code"]) == (status, code), answer
    return True


# Replays ------------------------------------------------------------------------------------------------------------


async def test_g3_events_are_named_one_by_one(stage: Stage) -> None:
    wanted = [*(await stage.events(stage.mia))[1:], (await stage.events(stage.bob))[0]]
    replay = await stage.ask(event_ids=[event_id(number) for number in wanted])
    assert replay["state"] == "running"
    assert replay["selection"] == {"event_ids": [event_id(number) for number in wanted]}
    assert replay["progress"]["events_delivered"] == replay["progress"]["failed"] == 0
    row = await stage.row(replay["id"])
    assert row["subscription_id"] == stage.subscription
    assert (row["only_ids"], row["lane"], row["asked_by"]) == (sorted(wanted), None, stage.crm.id)
    assert await stage.covered(replay["id"]) >= set(wanted)  # more, where both conversations are in one shard
    assert replay["progress"]["shards_left"] == len(await stage.spans(replay["id"]))

    for bad, status, code in (
        ([event_id(wanted[0]), event_id(2**40)], 404, "not_found"),
        ([event_id(2**63 - 1)], 404, "not_found"),
        (["evt_x"], 422, "invalid_request"),
        ([7], 422, "invalid_request"),
        ([], 422, "invalid_request"),
        ([event_id(1)] * 1001, 422, "invalid_request"),
    ):
        assert refused(await stage.crm.call("POST", "/v1/replays", {"event_ids": bad}), status, code), bad
    both = {"event_ids": [event_id(wanted[-1])], "conversation_id": stage.mia}
    assert refused(await stage.crm.call("POST", "/v1/replays", both), 404, "not_found")
    assert await stage.conn.fetchval("select count(*) from replay") == 1
    assert (await stage.ask(event_ids=[event_id(wanted[0])], conversation_id=stage.mia))["state"] == "running"


async def test_g3_a_range_a_time_and_a_conversation_are_spans_of_the_log(stage: Stage) -> None:
    mine, bobs = await stage.events(stage.mia), await stage.events(stage.bob)
    everything = await stage.events()
    times = {
        row["id"]: row["created_at"] for row in await stage.conn.fetch("select id, created_at from event order by id")
    }
    second = everything[2]

    for body, expected in (
        ({"from_event_id": event_id(second)}, everything[2:]),
        ({"from_event_id": event_id(second), "to_event_id": event_id(everything[3])}, everything[2:4]),
        ({"from_event_id": "evt_0"}, everything),
        ({"from_event_id": event_id(2**62)}, []),
        ({"since": times[second].isoformat()}, everything[2:]),
        ({"since": times[second].isoformat(), "until": times[everything[4]].isoformat()}, everything[2:4]),
        ({"since": "2000-01-01T00:00:00Z"}, everything),
        ({"since": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, []),
        ({"conversation_id": stage.mia}, mine),
        ({"conversation_id": stage.bob, "since": times[second].isoformat()}, bobs[1:]),
        (
            {"conversation_id": stage.bob, "from_event_id": event_id(bobs[0]), "to_event_id": event_id(bobs[1])},
            bobs[:2],
        ),
    ):
        replay = await stage.ask(**body)
        lane = body.get("conversation_id")
        shards = await stage.spans(replay["id"])
        assert await stage.covered(replay["id"]) >= set(expected), body
        if lane is None:
            assert await stage.covered(replay["id"]) == set(expected), body
        else:
            assert list(shards) == [shard_of(parse_id("cnv", lane))]
        row = await stage.row(replay["id"])
        assert row["lane"] == (parse_id("cnv", lane) if lane else None)
        assert row["only_ids"] is None
        assert row["since"] == (datetime.fromisoformat(body["since"]) if "since" in body else None)
        assert replay["state"] == ("running" if shards else "finished")
    heads = dict(await stage.conn.fetch("select shard, max(id) from event group by shard"))
    whole = await stage.ask(since="2000-01-01T00:00:00Z")
    assert {shard: upto for shard, (_, upto) in (await stage.spans(whole["id"])).items()} == heads


async def test_g3_it_is_said_in_one_way(stage: Stage) -> None:
    now, some = datetime.now(UTC).isoformat(), event_id(5)
    for body in (
        {},
        {"failed": False},
        {"number": NUMBER},
        {"event_ids": [some], "from_event_id": some},
        {"event_ids": [some], "failed": True},
        {"from_event_id": some, "since": now},
        {"failed": True, "from_event_id": some},
        {"to_event_id": some},
        {"from_event_id": event_id(9), "to_event_id": event_id(8)},
        {"until": now},
        {"since": now, "until": now},
        {"since": "now"},
        {"since": "2026-01-01T00:00:00"},
        {"conversation_id": stage.mia, "event_ids": []},
        {"failed": True, "mode": "fast"},
        {"failed": True, "number": "helpdesk"},
    ):
        assert refused(await stage.crm.call("POST", "/v1/replays", body), 422, "invalid_request"), body
    for body in ({"conversation_id": f"cnv_{GHOST}"}, {"conversation_id": "mia"}, {"failed": True, "number": "+15559"}):
        answer = await stage.crm.call("POST", "/v1/replays", body)
        assert answer.status in {404, 422}, body
    assert await stage.conn.fetchval("select count(*) from replay") == 0


async def test_a7_only_events_of_the_own_channel_count(stage: Stage) -> None:
    own = await stage.world.service("own", plan="standalone")
    await own.connect()
    await writes(stage.world.customer(MIA), stage.helpdesk, own, text="to both")
    foreign, mine = sorted(
        row["id"] for row in await stage.conn.fetch("select id from event where data like '%to both%'")
    )
    channel = await stage.conn.fetchval("select channel_id from event where id = $1", mine)
    if channel != parse_id("chn", own.connection["channel_id"]):
        foreign, mine = mine, foreign
    body = {"event_ids": [event_id(foreign)]}
    assert refused(await own.call("POST", "/v1/replays", body), 404, "not_found")
    assert refused(await own.call("POST", "/v1/replays", {"conversation_id": stage.mia}), 404, "not_found")
    assert (await own.call("POST", "/v1/replays", {"event_ids": [event_id(mine)]})).status == 202
    before = (await stage.events(stage.mia))[0]  # the service connects after it
    late = await stage.world.service("late")
    await late.connect()
    assert (await late.call("POST", "/v1/replays", {"event_ids": [event_id(before)]})).status == 202
    hidden = await stage.conn.fetchval(
        """insert into event (id, shard, prev_id, type, channel_id, audience, data, created_at)
           select nextval('event_id_seq'), 1, 0, 'channel.unrouted', channel_id, '{}', '{}', now() from event
           where id = $1 returning id""",
        before,
    )
    assert refused(await late.call("POST", "/v1/replays", {"event_ids": [event_id(hidden)]}), 404, "not_found")


async def test_a_replay_needs_a_connection_with_an_endpoint_and_one_number(stage: Stage) -> None:
    crm, failed = stage.crm, {"failed": True}
    stranger = await stage.world.service("stranger")
    assert refused(await stranger.call("POST", "/v1/replays", failed), 409, "not_connected")
    await stranger.call("PUT", f"/v1/numbers/{NUMBER}/connection")
    assert refused(await stranger.call("POST", "/v1/replays", failed), 409, "no_endpoint")
    blind = await stage.world.service("blind", scopes=["reply"])
    assert refused(await blind.call("POST", "/v1/replays", failed), 403, "missing_scope")

    assert refused(await crm.call("POST", "/v1/replays", failed | {"number": OTHER}), 409, "not_connected")
    assert refused(await crm.call("POST", "/v1/replays", failed | {"number": "+15559999999"}), 404, "not_found")
    await crm.connect(OTHER)
    answer = await crm.call("POST", "/v1/replays", failed)
    assert refused(answer, 422, "number_required")
    assert answer.json["numbers"] == [NUMBER, OTHER]
    assert (await crm.call("POST", "/v1/replays", failed | {"number": OTHER})).json["number"] == OTHER
    other = {"conversation_id": stage.mia, "number": OTHER}
    assert refused(await crm.call("POST", "/v1/replays", other), 404, "not_found")


async def test_what_the_log_has_dropped_is_refused(stage: Stage) -> None:
    name, high = await stage.conn.fetchrow(
        "select name, high::bigint from partitions_of('event') order by low::bigint limit 1"
    )
    lost = (await stage.events())[0]
    await stage.give_up(lost)
    lost_at = await stage.conn.fetchval("select created_at from event where id = $1", lost)
    await stage.conn.execute(f"select setval('event_id_seq', {high})")
    await writes(stage.world.customer(MIA), stage.helpdesk, text="kept")
    await stage.conn.execute(f"alter table event detach partition {name}")
    (kept,) = await stage.events()
    await stage.give_up(kept)
    for body in (
        {"event_ids": [event_id(kept), event_id(lost)]},
        {"from_event_id": event_id(lost)},
        {"since": lost_at.isoformat()},
    ):
        answer = await stage.crm.call("POST", "/v1/replays", body)
        assert refused(answer, 409, "events_expired")
        assert answer.json["oldest_event_id"] == event_id(high)
    assert (await stage.ask(since=answer.json["oldest_at"]))["state"] == "running"
    assert (await stage.ask(from_event_id=answer.json["oldest_event_id"]))["state"] == "running"
    replay = await stage.ask(failed=True)
    assert replay["selection"] == {"failed": True, "expired_events": 1}
    assert (await stage.row(replay["id"]))["only_ids"] == [kept]
    dead = (await stage.crm.call("GET", "/v1/deliveries/dead")).json["items"]
    assert [(item["event_id"], item["type"]) for item in dead] == [
        (event_id(lost), None),
        (event_id(kept), "message.received"),
    ]


async def test_replays_are_listed_cancelled_and_written_down(stage: Stage) -> None:
    first = (await stage.events())[0]
    made = [await stage.ask(event_ids=[event_id(first + 0)]) for _ in range(3)]
    items = await pages(lambda path: stage.crm.call("GET", path), "/v1/replays?limit=2", "before")
    assert [item["id"] for item in items] == [replay["id"] for replay in reversed(made)]
    path = f"/v1/replays/{made[0]['id']}"
    assert (await stage.crm.call("GET", path)).json == made[0]
    assert made[0]["finished_at"] is None
    await stage.conn.execute(
        "update replay_shard set delivered = 3, failed = 2 where replay_id = $1", parse_id("rpl", made[0]["id"])
    )
    cancelled = await stage.crm.call("DELETE", path)
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    assert cancelled.json["progress"] == {"events_delivered": 3, "failed": 2, "shards_left": 0}
    assert cancelled.json["finished_at"] is not None
    assert (await stage.crm.call("DELETE", path)).json == cancelled.json
    assert await stage.spans(made[1]["id"])
    await stage.conn.execute(
        "update replay_shard set finished_at = now() where replay_id = $1", parse_id("rpl", made[1]["id"])
    )
    finished = await stage.crm.call("DELETE", f"/v1/replays/{made[1]['id']}")
    assert finished.json["state"] == "finished"

    for method in ("GET", "DELETE"):
        for service, replay in ((stage.helpdesk, made[0]["id"]), (stage.crm, f"rpl_{GHOST}"), (stage.crm, "rpl_x")):
            assert refused(await service.call(method, f"/v1/replays/{replay}"), 404, "not_found")
    assert (await stage.helpdesk.call("GET", "/v1/replays")).json["items"] == []
    rows = [row for row in await audit(stage.world) if row["action"].startswith("replay.")]
    assert [(row["action"], row["actor"]) for row in rows] == [("replay.requested", stage.crm.id)] * 3 + [
        ("replay.cancelled", stage.crm.id)
    ]
    assert rows[0]["details"] == {"replay": made[0]["id"], "selection": {"event_ids": 1}}


async def test_the_operator_replays_for_a_service(stage: Stage) -> None:
    call, crm = stage.world.call, stage.crm
    body = {"service_id": crm.id, "conversation_id": stage.mia}
    answer = await call("POST", "/v1/admin/replays", body)
    assert (answer.status, answer.json["service_id"], answer.json["asked_by"]) == (202, crm.id, "operator")
    path = f"/v1/admin/replays/{answer.json['id']}"
    assert (await call("GET", path)).json == answer.json == (await crm.call("GET", path.replace("/admin", ""))).json
    for query, count in (("", 1), (f"?service_id={crm.id}", 1), (f"?service_id={stage.helpdesk.id}", 0)):
        assert len((await call("GET", f"/v1/admin/replays{query}")).json["items"]) == count
    assert (await call("DELETE", path)).json["state"] == "cancelled"
    assert refused(await call("POST", "/v1/admin/replays", {"failed": True}), 422, "invalid_request")
    ghost = {"service_id": f"svc_{GHOST}", "failed": True}
    assert refused(await call("POST", "/v1/admin/replays", ghost), 409, "not_connected")
    assert refused(await call("POST", "/v1/admin/replays", ghost | {"service_id": "x"}), 404, "not_found")
    assert refused(await call("GET", "/v1/admin/replays/rpl_x"), 404, "not_found")
    assert refused(await call("POST", "/v1/admin/replays", body, key=crm.key), 403, "operator_only")


# Dead letters and parked lanes --------------------------------------------------------------------------------------


async def test_g3_all_that_failed_is_replayed(stage: Stage) -> None:
    mine, bobs = await stage.events(stage.mia), await stage.events(stage.bob)
    for number in (mine[0], mine[2], bobs[1]):
        await stage.give_up(number)
    at = await stage.conn.fetchval("select created_at from event where id = $1", bobs[1])
    for more, expected in (
        ({}, [mine[0], mine[2], bobs[1]]),
        ({"since": at.isoformat()}, [mine[2], bobs[1]]),
        ({"until": at.isoformat()}, [mine[0]]),
        ({"conversation_id": stage.mia}, [mine[0], mine[2]]),
        ({"conversation_id": stage.bob, "until": at.isoformat()}, []),
    ):
        replay = await stage.ask(failed=True, **more)
        assert (await stage.row(replay["id"]))["only_ids"] == sorted(expected), more
        assert await stage.covered(replay["id"]) >= set(expected)
        assert replay["state"] == ("running" if expected else "finished")
    assert (await stage.helpdesk.call("POST", "/v1/replays", {"failed": True})).json["state"] == "finished"
    assert (await stage.conn.fetchval("select count(*) from dead_letter")) == 3

    await stage.conn.execute(
        "insert into dead_letter (subscription_id, event_id, attempts) select $1, n, 11 from "
        "generate_series(1000000, 1009999) n",
        stage.subscription,
    )
    answer = await stage.crm.call("POST", "/v1/replays", {"failed": True})
    assert refused(answer, 422, "too_many_events")
    assert answer.json["most"] == 10_000


async def test_g3_dead_letters_are_listed_and_dropped(stage: Stage) -> None:
    numbers = await stage.events()
    for number in numbers:
        await stage.give_up(number, attempts=number % 7)
    items = await pages(lambda path: stage.crm.call("GET", path), "/v1/deliveries/dead?limit=4")
    assert [item["event_id"] for item in items] == [event_id(number) for number in numbers]
    assert [item["conversation_id"] for item in items] == [stage.mia, stage.bob] * 3
    first = items[0]
    assert (first["type"], first["attempts"], first["last_error"]) == ("message.received", numbers[0] % 7, "http_500")
    assert (first["number"], first["holds_conversation"]) == (NUMBER, False)
    assert first["at"] > first["timestamp"]
    assert (await stage.helpdesk.call("GET", "/v1/deliveries/dead")).json["items"] == []
    assert (await stage.crm.call("GET", f"/v1/deliveries/dead?number={OTHER}")).json["items"] == []

    path = "/v1/deliveries/dead"
    version = await stage.version()
    assert (await stage.crm.call("DELETE", f"{path}/{event_id(numbers[0])}")).status == 204
    assert refused(await stage.helpdesk.call("DELETE", f"{path}/{event_id(numbers[1])}"), 404, "not_found")
    for bad in (event_id(numbers[0]), event_id(2**50), "evt_x", "5"):
        assert refused(await stage.crm.call("DELETE", f"{path}/{bad}"), 404, "not_found")
    assert len((await stage.crm.call("GET", path)).json["items"]) == 5
    assert (await stage.crm.call("DELETE", f"{path}?number=%2B15550002222")).json == {"dropped": 0}
    assert (await stage.crm.call("DELETE", f"{path}?number={NUMBER}")).json == {"dropped": 5}
    assert (await stage.crm.call("DELETE", path)).json == {"dropped": 0}
    assert refused(await stage.crm.call("DELETE", f"{path}?number=x"), 422, "invalid_request")
    assert await stage.version() == version  # no lane was held: nothing for the dispatchers to see
    rows = [row["details"] for row in await audit(stage.world) if row["action"] == "dead_letters.dropped"]
    assert rows == [{"events": 1, "event_id": event_id(numbers[0])}, {"events": 5}]


async def test_g3_a_held_lane_goes_on_when_its_dead_letter_is_dropped_or_replayed(stage: Stage) -> None:
    mine, bobs = await stage.events(stage.mia), await stage.events(stage.bob)
    await stage.give_up(mine[0], is_held=True)
    await stage.give_up(bobs[1], is_held=True)
    dead = (await stage.crm.call("GET", "/v1/deliveries/dead")).json["items"]
    assert [item["holds_conversation"] for item in dead] == [True, True]
    held = {mine[0]: (11, False), bobs[1]: (11, False)}
    assert await stage.lanes() == held

    for body in ({"event_ids": [event_id(mine[1])]}, {"from_event_id": event_id(bobs[1] + 1)},
                 {"conversation_id": stage.mia, "from_event_id": event_id(mine[1])}):  # fmt: skip
        await stage.ask(**body)
        assert await stage.lanes() == held, body
    version = await stage.version()
    await stage.ask(failed=True, conversation_id=stage.bob)
    assert await stage.lanes() == {mine[0]: (11, False), bobs[1]: (0, True)}
    assert await stage.version() > version

    version = await stage.version()
    assert (await stage.crm.call("DELETE", f"/v1/deliveries/dead/{event_id(mine[0])}")).status == 204
    assert await stage.lanes() == {mine[0] + 1: (0, True), bobs[1]: (0, True)}
    assert await stage.version() > version

    await stage.conn.execute("delete from parked_lane")
    await stage.conn.execute("delete from dead_letter")
    await stage.give_up(mine[2], is_held=True)
    await stage.ask(since="2000-01-01T00:00:00Z")
    assert await stage.lanes() == {mine[2]: (0, True)}


async def test_g3_parked_lanes_are_shown(stage: Stage) -> None:
    mine, bobs = await stage.events(stage.mia), await stage.events(stage.bob)
    await stage.park(mine[0], "2030-01-01T00:00:00Z")
    await stage.park(bobs[2], "infinity", 11)
    paused = (await stage.events(kind="service.paused"))[0]
    await stage.conn.execute(
        """insert into parked_lane (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at)
           select $1, channel_id, shard, id, 1, now() from event where id = $2""",
        stage.subscription,
        paused,
    )
    items = await pages(lambda path: stage.crm.call("GET", path), "/v1/deliveries/parked?limit=1")
    found = {item["conversation_id"]: item for item in items}
    assert found.keys() == {stage.mia, stage.bob, None}
    assert found[stage.mia]["next_attempt_at"] == "2030-01-01T00:00:00Z"
    assert (found[stage.mia]["held"], found[stage.mia]["attempts"]) == (False, 3)
    assert (found[stage.bob]["held"], found[stage.bob]["next_attempt_at"]) == (True, None)
    assert (found[stage.bob]["first_event_id"], found[stage.bob]["last_error"]) == (event_id(bobs[2]), "http_422")
    assert found[None]["first_event_id"] == event_id(paused)
    assert (await stage.helpdesk.call("GET", "/v1/deliveries/parked")).json["items"] == []
    assert refused(await stage.crm.call("GET", "/v1/deliveries/parked?after=x"), 404, "not_found")
    view = (await stage.crm.call("GET", f"/v1/numbers/{NUMBER}")).json["delivery"]
    assert view["parked_lanes"] == 3


# What was attempted -------------------------------------------------------------------------------------------------


async def test_what_was_attempted_is_listed_newest_first_from_both_tables(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures are rows; what was accepted is packed per flush, hundreds of flushes of them here, and others' too."""
    mine = await stage.events(stage.mia)
    noise, shard = UUID(int=7), shard_of(parse_id("cnv", stage.mia))
    await stage.conn.execute("delete from delivered")
    start = datetime.now(UTC) - timedelta(hours=2)
    rows: list[tuple[int, datetime, bytes]] = []
    for n in range(450):
        entries = [Delivered(noise, 0, 10_000 + n, 200, 1)]
        if n % 45 == 0:
            entries += [Delivered(stage.subscription, 0, 900 + n, 200 + n % 2, n), Delivered(noise, 0, 901 + n, 200, 1)]
        rows.append((1, start + timedelta(seconds=n), pack(entries)))
    await stage.conn.copy_records_to_table("delivered", records=rows, columns=("owner", "at", "entries"))
    failed = [
        (stage.subscription, shard, mine[0], start + timedelta(seconds=n), outcome, status, 5, detail)
        for n, outcome, status, detail in (
            (45, "refused", 422, None),
            (46, "failed", None, "timeout"),
            (10, "gone", 410, None),
        )
    ]
    columns = ("subscription_id", "shard", "event_id", "at", "outcome", "http_status", "duration_ms", "detail")
    await stage.conn.copy_records_to_table("attempt", records=failed, columns=columns)

    async def listed(query: str, step: str = "") -> list[dict[str, Any]]:
        return await pages(lambda path: stage.crm.call("GET", path), f"/v1/deliveries?{query}", "before", step)

    for limit in (200, 3, 1):
        items = await listed(f"limit={limit}")
        assert len(items) == 13
        assert [item["at"] for item in items] == sorted((item["at"] for item in items), reverse=True)
        assert len({(item["at"], item["event_id"]) for item in items}) == 13
    with monkeypatch.context() as patched:
        patched.setattr(delivery_view, "MOST_CHUNKS", 1)
        assert await listed("limit=200") == items  # short pages, all of them together the same
    accepted = [item for item in items if item["outcome"] == "delivered"]
    assert accepted[0] == {
        "event_id": event_id(900 + 405),
        "type": None,
        "at": f"{start + timedelta(seconds=405):%Y-%m-%dT%H:%M:%S.%fZ}",
        "outcome": "delivered",
        "http_status": 201,
        "duration_ms": 405,
        "detail": None,
    }
    assert [item["outcome"] for item in await listed("outcome=failed&limit=1")] == ["failed"]
    assert len(await listed("outcome=delivered&limit=4")) == 10
    assert len(await listed(f"number={OTHER}")) == 0
    assert len(await listed("number=%2B15550001111&limit=200")) == 13
    half = f"{start + timedelta(seconds=45):%Y-%m-%dT%H:%M:%SZ}"
    before = await listed("limit=2", f"&before={half}")
    assert {item["event_id"] for item in before} == {event_id(900), event_id(mine[0])}
    assert (await stage.helpdesk.call("GET", "/v1/deliveries?outcome=gone")).json["items"] == []

    assert [item["outcome"] for item in await listed(f"event_id={event_id(mine[0])}")] == ["failed", "refused", "gone"]
    assert [item["outcome"] for item in await listed(f"event_id={event_id(mine[0])}&limit=1")] == [
        "failed",
        "refused",
        "gone",
    ]
    await stage.conn.execute("update event set created_at = $2 where id = $1", mine[1], start)
    at = start + timedelta(seconds=500)
    entries = pack([Delivered(stage.subscription, 0, mine[n], 200, n) for n in (0, 1)])
    await stage.conn.execute("insert into delivered (owner, at, entries) values (1, $1, $2)", at, entries)
    (found,) = await listed(f"event_id={event_id(mine[1])}")
    assert (found["outcome"], found["duration_ms"], found["type"]) == ("delivered", 1, "message.received")
    found = (await listed(f"event_id={event_id(mine[0])}"))[0]  # looked for after its last failure
    assert (found["outcome"], found["at"]) == ("delivered", f"{at:%Y-%m-%dT%H:%M:%S.%fZ}")
    assert await listed(f"event_id={event_id(2**50)}") == []

    for bad in ("outcome=lost", "event_id=x", "event_id=evt_", "number=x", "before=evt_1", "before=2026-01-01,x"):
        assert refused(await stage.crm.call("GET", f"/v1/deliveries?{bad}"), 422, "invalid_request"), bad
