"""Deliveries and administration in the console, over HTTP as a browser without scripts does it: every form has its
effect, in the database and in the audit trail; whoever may not is refused, and so is what comes from elsewhere.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from hub.domain.ids import event_id, parse_id
from hub.store import audit_search
from providers.simulator import Person
from tests.support.console_forms import Page, Visitor, log_in
from tests.support.talk import MIA, audit, automates, writes
from tests.support.wire import Wire, connected
from tests.support.world import ADMIN, NUMBER, World

OTHER = "+15550002222"
NEW = "+15550003333"
BOB = Person("+4915187654321", name="Bob")
ASKED = {
    "/console/deliveries": ("service", "number", "outcome", "event", "before"),
    "/console/deliveries/parked": ("after",),
    "/console/dead-letters": ("after",),
    "/console/replays": ("before", "conversation"),
    "/console/quarantine": ("state", "reason", "before"),
    "/console/services": ("after",),
    "/console/numbers": ("after",),
    "/console/audit": ("actor", "action", "subject", "before"),
}
"""What can be asked for in the address of a page."""
SERVICES, NUMBERS = "/console/services", "/console/numbers"


async def rows_of(url: str, sql: str, *args: Any) -> list[Any]:
    """Look into the hub's database."""
    async with connected(url) as conn:
        return list(await conn.fetch(sql, *args))


async def trail(world: World, *, since: int = 0) -> list[tuple[str, str, str | None]]:
    """Who did what, about what."""
    return [(row["actor"], row["action"], row["subject"]) for row in (await audit(world))[since:]]


def shown(page: Page, prefix: str) -> str:
    """The secret that a page shows this once."""
    assert page.status == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert "Copy it now" in page.text
    return next(code for code in page.codes if code.startswith(prefix))


async def test_h3_services_and_their_keys(hub_world: World, database_url: str) -> None:
    operator = await log_in(hub_world)
    page = await operator.get(SERVICES)
    assert "No service yet" in page.text
    wanted = {"name": "crm <b>", "plan": "bundle", "scope profiles": "on", "scope automate": None}
    made = await operator.send(page, SERVICES, wanted)
    key = shown(made, "plk_")
    assert any(f'Bearer {key}" https://hub.example.com/v1/numbers' in code for code in made.codes)
    again = await operator.send(page, SERVICES, wanted)
    assert "registered already" in again.text
    assert key not in again.html
    (row,) = await rows_of(database_url, "select name, plan, scopes, product from service")
    assert (row["name"], row["plan"], row["product"]) == ("crm <b>", "bundle", None)
    assert row["scopes"] == ["profiles", "read", "reply"]
    assert (await hub_world.call("GET", "/v1/numbers", key=key)).status == 200
    refused = await operator.fill(SERVICES, SERVICES, {"name": "  ", "plan": "<odd>", "scope reply": None})
    assert refused.status == 422
    assert "Not done" in refused.text
    kept = refused.form(SERVICES).fields
    assert (kept["plan"], "scope reply" in kept, "scope read" in kept) == ("<odd>", False, True), (
        "nothing typed is lost"
    )
    assert "Name: " in refused.text

    (named,) = {link for link in again.links if link.startswith(f"{SERVICES}/svc_")}
    service_id = named.removeprefix(f"{SERVICES}/")
    page = await operator.fill(named, named, {"scope automate": "on", "product": "desk"})
    assert "Saved" in page.text
    second = shown(await operator.fill(named, f"{named}/keys"), "plk_")
    assert (await hub_world.call("GET", "/v1/numbers", key=second)).status == 200
    page = await operator.get(named)
    assert second not in page.html
    assert f"…{second[-4:]}" in page.text
    revoke = next(form.action for form in page.forms if form.action.endswith("/revoke"))  # the older one's
    asked = await operator.send(page, revoke)
    assert "refused at once" in asked.text
    assert (await hub_world.call("GET", "/v1/numbers", key=key)).status == 200, "it only asked"
    assert "Revoked" in (await operator.send(asked, revoke)).text
    assert (await hub_world.call("GET", "/v1/numbers", key=key)).status == 401
    assert "not valid any more" in (await operator.post(revoke, page.form(revoke).fields)).text

    await hub_world.call("PUT", f"/v1/numbers/{NUMBER}/connection", {}, key=second)
    asked = await operator.fill(named, f"{named}/remove")
    assert f"It leaves {NUMBER}" in asked.text
    kept = await operator.send(asked, f"{named}/remove", {"typed": "crm"})
    assert "was not typed as it is" in kept.text
    gone = await operator.send(asked, f"{named}/remove", {"typed": "crm <b>"})
    assert "was removed" in gone.text
    assert (await hub_world.call("GET", "/v1/numbers", key=second)).status == 401
    assert "no such service" in (await operator.send(asked, f"{named}/remove", {"typed": "crm <b>"})).text
    assert await rows_of(database_url, "select from subscription where disconnected_at is null") == []
    done = [action for actor, action, _ in await trail(hub_world, since=2) if actor == "operator"]
    assert done[:4] == ["service.registered", "service.changed", "key.added", "key.revoked"]
    assert done[4:6] == ["service.removed", "service.disconnected"]
    logged = await rows_of(database_url, "select details || coalesce(subject, '') as text from audit")
    assert not [row for row in logged if key in row["text"] or second in row["text"]], "keys are in no trail"
    assert service_id in (await operator.get("/console/audit")).html


async def test_a6_numbers_senders_and_parenthood(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    alone = await hub_world.service("alone", plan="standalone")
    await alone.connect()
    cnv = await writes(hub_world.customer(MIA), helpdesk, crm)
    due = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    for text in ("one", "two"):
        assert (await automates(helpdesk, cnv, text, "scheduled", send_at=due)).status == 202
    operator, since = await log_in(hub_world), len(await audit(hub_world))

    page = await operator.get(NUMBERS)
    made = {"e164": NEW, "whatsapp external_id": "100000000000003", "whatsapp account": "77", "sms external_id": NEW}
    assert "Registered" in (await operator.send(page, NUMBERS, made)).text
    assert "registered already" in (await operator.send(page, NUMBERS, made)).text
    faulty = await operator.send(page, NUMBERS, {"e164": "12", "sms external_id": "x"})
    assert "E164: is not a number in international form" in faulty.text
    assert "External id: at Twilio" in faulty.text
    assert faulty.form(NUMBERS).fields["sms external_id"] == "x"
    assert "at least one sender" in (await operator.send(page, NUMBERS, {"e164": "+15550004444"})).text
    new = f"{NUMBERS}/{NEW}"
    sender = {"medium": "whatsapp", "provider": "meta", "external_id": "100000000000009", "rate": "12,5"}
    assert "in use from now on" in (await operator.fill(new, f"{new}/senders", sender)).text
    assert "Rate: " in (await operator.fill(new, f"{new}/senders/sms", {"rate": "fast"})).text
    assert "Saved" in (await operator.fill(new, f"{new}/senders/sms", {"rate": "3", "is_active": None})).text
    assert "Saved" in (await operator.fill(new, f"{new}/settings", {"default_share": "all", "standalone": "on"})).text
    rows = await rows_of(
        database_url,
        "select s.medium, s.external_id, s.rate, s.is_active, n.standalone_may_automate, c.default_share from sender s"
        " join number n on n.id = s.number_id join channel c on c.number_id = n.id where n.e164 = $1 order by s.id",
        NEW,
    )
    assert [tuple(row) for row in rows] == [
        ("whatsapp", "100000000000003", None, False, True, "all"),
        ("sms", NEW, 3.0, False, True, "all"),
        ("whatsapp", "100000000000009", 12.5, True, True, "all"),
    ]

    number = f"{NUMBERS}/{NUMBER}"
    page = await operator.get(number)
    assert "helpdesk is the parent since" in page.text
    assert "2 automated messages of it, waiting or scheduled, are cancelled" in page.text
    assert "Channel of alone alone" in page.text
    asked = await operator.send(page, f"{number}/parent", {"service": crm.id, "note": "Nights <i>"})
    assert "helpdesk is the parent no more, and stays a subscriber: 2 automated messages" in asked.text
    assert "Note: Nights <i>" in asked.text
    done = await operator.send(asked, f"{number}/parent")
    assert "crm is the parent now, at epoch 2" in done.text
    assert "crm was the parent already" in (await operator.send(asked, f"{number}/parent")).text
    assert await rows_of(database_url, "select from schedule") == []
    await crm.endpoint.hears("channel.parent_changed")
    sure = asked.form(f"{number}/parent").fields
    for fields in (sure, {name: value for name, value in sure.items() if name != "confirmed"}):
        refused = await operator.post(f"{number}/parent", fields | {"service": alone.id})
        assert "standalone" in refused.text
        assert "Not done." in refused.text, "what cannot be is refused before it is asked about"
        assert "crm was the parent already" in (await operator.post(f"{number}/parent", fields)).text

    page = await operator.get(number)
    assert "Paused" in (await operator.send(page, f"{number}/connection/pause", service=crm.id)).text
    assert "paused already" in (await operator.send(page, f"{number}/connection/pause", service=crm.id)).text
    page = await operator.get(number)
    whole = {"service": crm.id, "mode": "continue"}
    assert "Delivering again" in (await operator.send(page, f"{number}/connection/resume", **whole)).text
    asked = await operator.fill(number, f"{number}/connection/leave", service=crm.id)
    assert "crm is the parent: helpdesk becomes it." in asked.text
    assert "crm has left" in (await operator.send(asked, f"{number}/connection/leave")).text
    assert "not connected" in (await operator.send(asked, f"{number}/connection/leave")).text
    assert "twilio: " in (await operator.fill(NUMBERS, f"{NUMBERS}/fetch")).text
    told = [(action, subject) for actor, action, subject in await trail(hub_world, since=since) if actor == "operator"]
    assert told == [
        ("number.registered", NEW), ("sender.added", NEW), ("sender.changed", NEW), ("number.changed", NEW),
        ("channel.parent_changed", NUMBER), ("service.paused", NUMBER), ("service.resumed", NUMBER),
        ("service.disconnected", NUMBER), ("channel.parent_changed", NUMBER),
    ]  # fmt: skip
    filtered = await operator.get("/console/audit?action=channel&actor=operator")
    assert "Nights <i>" in filtered.text
    assert "service registered" not in filtered.text


async def test_a11_a_services_people_run_their_own_connection(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    crm = await hub_world.service("crm", scopes=["read"])
    people, number = await log_in(hub_world, crm.key), f"{NUMBERS}/{NUMBER}"
    connection = f"{number}/connection"
    page = await people.get(number)
    assert "Connect this number" in page.text
    assert "helpdesk" not in page.text, "who is on a channel is for those who are (A9)"
    refused = await people.send(page, connection, {"endpoint_url": "http://10.0.0.1/", "share": "all"})
    assert "Not done. 10.0.0.1 is not allowed" in refused.text
    kept = refused.form(connection).fields
    assert (kept["endpoint_url"], kept["share"]) == ("http://10.0.0.1/", "all"), "what was typed is not lost"
    assert await rows_of(database_url, "select from subscription where service_id = $1", parse_id("svc", crm.id)) == []
    wanted = {"endpoint_url": crm.endpoint.url, "display": "full", "share": "all", "type message.received": "on"}
    made = await people.send(page, connection, wanted)
    crm.endpoint.secret = shown(made, "whsec_")
    twice = await people.send(page, connection, wanted)
    assert "if you did not see a signing secret" in twice.text, "pressed twice, a browser shows the second answer"
    await writes(hub_world.customer(MIA), helpdesk, crm)
    assert crm.endpoint.refused == [], "the secret is the one that deliveries are signed with"
    page = await people.get(number)
    assert crm.endpoint.secret not in page.html
    assert "helpdesk is the parent" in page.text
    form = page.form(connection).fields
    assert form["display"] == "full"
    assert form["share"] == "all"
    assert form["type message.received"] == "on"
    saved = await people.send(
        page, connection, {"share": "named", f"share {helpdesk.id}": "on", "on_exhausted": "hold"}
    )
    assert "Saved" in saved.text
    (row,) = await rows_of(database_url, "select * from subscription where service_id = $1", parse_id("svc", crm.id))
    assert (row["share"], row["share_with"], row["on_exhausted"]) == ("named", [parse_id("svc", helpdesk.id)], "hold")
    assert row["event_types"] == ["message.received"]

    rotated = await people.send(saved, f"{connection}/rotate")
    secret = shown(rotated, "whsec_")
    assert secret != crm.endpoint.secret
    assert "rotated already" in (await people.send(saved, f"{connection}/rotate")).text
    assert (
        len(await rows_of(database_url, "select from subscription_secret where subscription_id = $1", row["id"])) == 2
    )
    crm.endpoint.secret = secret
    one = f"/console/subscriptions/sub_{row['id'].hex}"
    assert "Paused" in (await people.fill(one, f"{connection}/pause")).text
    await writes(hub_world.customer(MIA), helpdesk, text="nobody hears this")
    asked = await people.fill(one, f"{connection}/resume", mode="skip")
    assert "never gets by webhook what happened" in asked.text
    assert "Delivering again" in (await people.send(asked, f"{connection}/resume")).text
    await writes(hub_world.customer(MIA), helpdesk, crm, text="but this")
    assert [d.data["message"]["text"] for d in crm.endpoint.of("message.received")] == ["Hello", "but this"]

    theirs = await rows_of(
        database_url, "select id from subscription where service_id = $1", parse_id("svc", helpdesk.id)
    )
    assert (await people.get(f"/console/subscriptions/sub_{theirs[0]['id'].hex}")).status == 404
    taken = await people.post(f"{connection}/pause", page.form(connection).fields | {"service": helpdesk.id})
    assert "Paused" in taken.text
    states = await rows_of(database_url, "select state from subscription order by rank")
    assert [each["state"] for each in states] == ["active", "paused"], "whatever a form says, it is about one's own"
    asked = await people.fill(number, f"{connection}/leave")
    assert "can read nothing of it any more" in asked.text
    assert "crm has left" in (await people.send(asked, f"{connection}/leave")).text
    mine = [(action, subject) for actor, action, subject in await trail(hub_world) if actor == crm.id]
    assert mine == [
        ("service.connected", NUMBER), ("secret.rotated", None), ("service.paused", NUMBER),
        ("service.resumed", NUMBER), ("service.paused", NUMBER), ("service.disconnected", NUMBER),
    ]  # fmt: skip


async def _given_up(url: str, service: str, events: list[int], held: int | None = None) -> None:
    """Events that were tried for three days; a lane that is held for one of them."""
    async with connected(url) as conn:
        own = await conn.fetchval(
            "select id from subscription where service_id = $1 and disconnected_at is null", parse_id("svc", service)
        )
        await conn.executemany(
            "insert into dead_letter (subscription_id, event_id, attempts, last_error) values ($1, $2, 11, 'http_500')",
            [(own, number) for number in events],
        )
        await conn.execute(
            "insert into parked_lane"
            " (subscription_id, lane, shard, first_event_id, attempts, next_attempt_at, last_error)"
            " select $1, conversation_id, shard, id, 11, 'infinity', 'timeout' from event where id = $2",
            own, held,
        )  # fmt: skip


async def test_g3_dead_letters_and_replays(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    await crm.call("POST", f"/v1/numbers/{NUMBER}/connection/pause")
    mia = hub_world.customer(MIA)
    for turn in range(4):
        cnv = await writes(mia, helpdesk, text=f"mia {turn}")
    rows = await rows_of(database_url, "select id from event where type = 'message.received' order by id")
    events = [row["id"] for row in rows]
    await _given_up(database_url, crm.id, events, held=events[0])
    operator, people, others = [await log_in(hub_world, key) for key in (ADMIN, crm.key, helpdesk.key)]
    dead, since = "/console/dead-letters", len(await audit(hub_world))

    assert "Pick the service whose events were given up" in (await operator.get(dead)).text
    assert "helpdesk has missed no event" in (await others.get(f"{dead}?service={crm.id}")).text, "one sees one's own"
    page = await people.get(dead)
    boxes = sorted(box for box in page.form(f"{dead}/replay").boxes if box.startswith("dead "))
    assert boxes == [f"dead {NUMBER} {event_id(number)}" for number in events]
    assert "it answered 500" in page.text
    assert "holds its conversation" in page.text
    parked = await people.get("/console/deliveries/parked")
    assert "held until somebody decides" in parked.text
    assert "it took too long" in parked.text

    assert "Nothing was chosen" in (await people.send(page, f"{dead}/replay")).text
    form = page.form(f"{dead}/replay").fields
    one = await people.post(f"{dead}/replay", {**form, boxes[1]: "on", boxes[2]: "on"})
    assert "2 named events" in one.text
    assert "asked for already" in (await people.post(f"{dead}/replay", {**form, boxes[1]: "on"})).text
    replays = await rows_of(database_url, "select id, only_ids, asked_by from replay order by id")
    assert [(row["only_ids"], row["asked_by"]) for row in replays] == [(events[1:3], crm.id)]
    assert (await others.get(f"/console/replays/rpl_{replays[0]['id'].hex}")).status == 404
    cancel = f"/console/replays/rpl_{replays[0]['id'].hex}/cancel"
    assert "Cancelled" in (await people.send(one, cancel)).text
    assert "Cancelled" in (await people.send(one, cancel)).text, "once more changes nothing"

    asked = await people.post(f"{dead}/drop", {**form, boxes[3]: "on"})
    assert "Drop 1 dead letter?" in asked.text
    assert event_id(events[3]) in asked.codes
    assert len(await rows_of(database_url, "select from dead_letter")) == 4, "it only asked"
    assert "1 dead letter dropped" in (await people.send(asked, f"{dead}/drop")).text
    assert "Nothing was left to drop" in (await people.send(asked, f"{dead}/drop")).text
    picked = await operator.get(f"{dead}?service={crm.id}")
    fields = picked.form(f"{dead}/replay").fields
    everything = await operator.post(f"{dead}/replay", {**fields, "all": "yes"})
    assert "all that were given up" in everything.text
    assert await rows_of(database_url, "select from parked_lane where next_attempt_at = 'infinity'") == []
    asked = await operator.post(f"{dead}/drop", {**fields, boxes[0]: "on", "all": "yes"})
    assert "Drop 3 dead letters?" in asked.text, "all are all, whatever is ticked"
    assert "3 dead letters dropped" in (await operator.send(asked, f"{dead}/drop")).text
    assert await rows_of(database_url, "select from dead_letter") == []

    form_page = await people.get(f"/console/replays?conversation={cnv}")
    assert form_page.form("/console/replays", way="conversation").fields["conversation"] == cnv
    for change, text in (
        ({"way": "since", "since": ""}, "Say since when"),
        ({"way": "events", "event_ids": "evt_x"}, "is not the event_id"),
        ({"way": "events", "event_ids": "evt_00ff"}, "no event evt_00000000000000ff"),
        ({"way": "nothing"}, "Say by what"),
        ({"way": "conversation", "conversation": "cnv_1"}, "There is no 'cnv_1'"),
    ):
        refused = await people.send(form_page, "/console/replays", change, way="conversation")
        assert "Not done" in refused.text
        assert text in refused.text
        kept = next(form.fields for form in refused.forms if "once" in form.fields)
        assert all(kept[name] == value for name, value in change.items() if name != "way")
    day = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M}"
    for change, text in (
        ({"way": "since", "since": day, "conversation": ""}, "since "),
        ({"way": "events", "event_ids": f"{event_id(events[0])}\n {event_id(events[1])}"}, "2 named events"),
        ({}, f"everything the log has, of conversation {cnv}"),
    ):
        page = await people.get(f"/console/replays?conversation={cnv}")
        assert text in (await people.send(page, "/console/replays", change, way="conversation")).text
    mine = [action for actor, action, _ in await trail(hub_world, since=since) if actor == crm.id]
    assert mine == ["replay.requested", "replay.cancelled", "dead_letters.dropped", *["replay.requested"] * 3]
    ours = [action for actor, action, _ in await trail(hub_world, since=since) if actor == "operator"]
    assert ours == ["replay.requested", "dead_letters.dropped"]


async def test_g3_what_was_attempted(hub_world: World, database_url: str) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    crm.endpoint.answer = lambda delivery: 200 if delivery.type != "message.received" else 422
    await writes(hub_world.customer(BOB), helpdesk, text="refused by one")
    (event,) = [
        row["id"] for row in await rows_of(database_url, "select id from event where type = 'message.received'")
    ]
    operator, people = await log_in(hub_world), await log_in(hub_world, crm.key)

    async def until(visitor: Visitor, path: str, *texts: str) -> Page:
        """What is delivered is written down a moment later."""
        for _ in range(200):
            page = await visitor.get(path)
            if all(text in page.text for text in texts):
                break
        assert all(text in page.text for text in texts), page.text
        return page

    page = await until(people, "/console/deliveries", "refused message.received", "delivered service.connected")
    assert "helpdesk" not in page.text
    assert "parent changed" not in page.text
    page = await until(operator, f"/console/deliveries?event={event_id(event)}", "delivered", "refused", "helpdesk")
    assert "service.connected" not in page.text
    page = await operator.get(f"/console/deliveries?service={crm.id}&outcome=refused&number={NUMBER}")
    assert "service.connected" not in page.text
    assert "422" in page.text
    assert "Nothing that fits" in (await operator.get(f"/console/deliveries?service={crm.id}&outcome=gone")).text
    assert (await people.get("/console/deliveries?outcome=nonsense")).status == 422
    assert (await people.get("/console/deliveries?event=nonsense")).status == 422
    earlier = await people.get("/console/deliveries?before=2020-01-01T00:00:00Z")
    assert "That was all" in earlier.text
    page = await until(operator, "/console/deliveries", "some wait")
    own = next(
        row["id"] for row in await rows_of(database_url, "select id from subscription order by rank desc limit 1")
    )
    page = await until(people, f"/console/subscriptions/sub_{own.hex}", "It answered 422", "1conversation parked")
    assert "look into its log by the webhook-id" in page.text


async def test_b5_the_quarantine(hub_world: World, database_url: str) -> None:
    await hub_world.connected("helpdesk")
    hostile = "<script>alert(1)</script>\x07"
    wire = Wire(hub_world)
    await wire.meta(_to("999", hostile, 3))
    await wire.meta(_to("998", "fine", 1))
    operator = await log_in(hub_world)
    page = await operator.get("/console/quarantine")
    assert "No sender with this phone_number_id" in page.text
    (entry,) = {link for link in page.links if link.endswith("/quarantine/1")}
    one = await operator.get(entry)
    assert "<script>alert" not in one.html
    assert '"body": "<script>alert(1)</script>\\u0007"' in one.text
    refused = await operator.send(one, f"{entry}/replay")
    assert "it still cannot be taken in: unknown_number" in refused.text
    sender = {"medium": "whatsapp", "provider": "meta", "external_id": "999"}
    number = f"{NUMBERS}/{OTHER}"
    await operator.fill(number, f"{number}/senders", sender)
    assert "Taken in: 1 new" in (await operator.send(one, f"{entry}/replay")).text
    assert "Taken in: 0 new, 1 that were there already" in (await operator.send(one, f"{entry}/replay")).text
    many = await operator.send(page, "/console/quarantine/replay", reason="unknown_number")
    assert "2 taken in (2 new items" in many.text
    assert "1 cannot be taken in yet: unknown_number 1" in many.text
    states = await rows_of(database_url, "select state from quarantine order by id")
    assert [row["state"] for row in states] == ["replayed", "replayed", "replayed", "open"]
    assert "Entry 4" in (await operator.get("/console/quarantine?reason=unknown_number")).text
    assert "Entry 4" not in (await operator.get("/console/quarantine?state=replayed")).text
    assert "Nothing that fits" in (await operator.get("/console/quarantine?reason=too_deep")).text
    assert (await operator.get("/console/quarantine?state=nonsense")).status == 422
    assert (await operator.get("/console/quarantine/77")).status == 404
    told = [subject for _, action, subject in await trail(hub_world) if action == "quarantine.replayed"]
    assert told == ["1", "1", "2", "3"]
    for raw, text in ((b"\xff\xfeno\x00text", r"\xff\xfeno\x00text"), (b"a=1&b=%3Cb%3E<b>", "a=1&b=%3Cb%3E<b>")):
        async with connected(database_url) as conn:
            made = await conn.fetchval(
                "insert into quarantine (item_key, provider, path, reason, detail, raw)"
                " values ($1, 'twilio', '/webhooks/twilio', 'charset', 'odd', $1) returning id",
                raw,
            )
        assert text in (await operator.get(f"/console/quarantine/{made}")).codes


def _to(phone_number_id: str, text: str, count: int) -> dict[str, Any]:
    messages = [
        {"from": "4915112345678", "id": f"wamid.{phone_number_id}.{n}", "timestamp": "1770000000", "type": "text",
         "text": {"body": text}} for n in range(count)
    ]  # fmt: skip
    value = {"metadata": {"phone_number_id": phone_number_id}, "messaging_product": "whatsapp", "messages": messages}
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [{"field": "messages", "value": value}]}],
    }


async def test_h3_forms_of_others_and_wrong_roles_change_nothing(hub_world: World, database_url: str) -> None:
    _, crm = await hub_world.connected("helpdesk", "crm")
    blind = await hub_world.service("blind", scopes=["reply"])
    operator, people, none = [await log_in(hub_world, key) for key in (ADMIN, crm.key, blind.key)]
    number, service = f"{NUMBERS}/{NUMBER}", f"{SERVICES}/{crm.id}"
    operators = [
        SERVICES, service, f"{service}/keys", f"{service}/keys/key_{'0' * 32}/revoke", f"{service}/remove", NUMBERS,
        f"{NUMBERS}/fetch", f"{number}/settings", f"{number}/senders", f"{number}/senders/sms", f"{number}/parent",
        "/console/quarantine/replay", "/console/quarantine/1/replay",
    ]  # fmt: skip
    anybodys = [
        "/console/dead-letters/replay", "/console/dead-letters/drop", "/console/replays",
        f"/console/replays/rpl_{'0' * 32}/cancel", f"{number}/connection", f"{number}/connection/rotate",
        f"{number}/connection/pause", f"{number}/connection/resume", f"{number}/connection/leave",
    ]  # fmt: skip
    since = len(await audit(hub_world))
    token = (await operator.get(SERVICES)).form(SERVICES).fields["csrf"]
    fields = {"confirmed": "yes", "service": crm.id, "name": "x", "plan": "bundle", "once": "1", "typed": "crm"}
    for path in (*operators, *anybodys):
        answers = [
            await operator.post(path, fields),
            await people.post(path, fields | {"csrf": token}),
            await operator.post(path, fields | {"csrf": token}, Origin="https://evil.example"),
        ]
        assert [answer.status for answer in answers] == [403] * 3, path
        nobody = await Visitor(hub_world).post(path, fields | {"csrf": token}, follow=False)
        assert nobody.status == 303
        assert nobody.headers["Location"].startswith("/console/login")
    own = (await people.get(number)).form("/console/logout").fields["csrf"]
    for path in operators:
        refused = await people.post(path, fields | {"csrf": own, "back": number})
        assert "This page is the operator's" in refused.text
    for path in (SERVICES, service, "/console/quarantine", "/console/quarantine/1", "/console/audit"):
        assert (await people.get(path)).status == 403
    for path in ("/console/deliveries", "/console/dead-letters", NUMBERS, number):
        assert "lacks the scope 'read'" in (await none.get(path)).text
    assert "Only a service connects" in (await operator.post(f"{number}/connection", fields | {"csrf": token})).text
    assert (
        "Only the service itself" in (await operator.post(f"{number}/connection/rotate", fields | {"csrf": token})).text
    )
    assert (await audit(hub_world))[since:] == []
    assert len(await rows_of(database_url, "select from subscription where disconnected_at is null")) == 2


async def test_a8_the_trail_is_searched_and_paged(hub_world: World, database_url: str) -> None:
    (helpdesk,) = await hub_world.connected("helpdesk")
    async with connected(database_url) as conn:
        await conn.execute(
            "insert into audit (actor, action, subject, details) select 'operator', 'contact.exported', 'con_' || x,"
            " '{\"reason\": \"r' || x || '\"}' from generate_series(1, 120) x"
        )
    operator = await log_in(hub_world)
    seen, path = [], "/console/audit?action=contact"
    while path:
        page = await operator.get(path)
        seen += [word for word in page.text.split() if word.startswith("con_")]
        path = next((link for link in page.links if "before=" in link), "")
    assert seen == [f"con_{x}" for x in range(120, 0, -1)]
    about = await operator.get(f"/console/audit?service={helpdesk.id}")
    assert "service connected" in about.text
    assert "contact exported" not in about.text
    one = await operator.get("/console/audit?subject=con_7&actor=operator")
    assert "r7" in one.text.split()
    assert "Nothing that fits" in (await operator.get("/console/audit?subject=nobody")).text
    async with connected(database_url) as conn:
        wanted = audit_search.AuditFilter(subject="con_1")
        rows, following = await audit_search.search(conn, 2**62, wanted, 10, reach=50)
        assert rows == []
        assert following is not None
        rows, _ = await audit_search.search(conn, following, wanted, 10, reach=100)
        assert [row["subject"] for row in rows] == ["con_1"]
    odd = ("\x00", "9" * 30, "0001-01-01T00:00:00+14:00", "evt_ffffffffffffffff", "<b>'\u0663")
    for path, names in ASKED.items():
        for name in names:
            for value in odd:
                page = await operator.get(f"{path}?{urlencode({name: value})}")
                assert page.status in {200, 404, 422}, page.url
                assert value not in page.html or "<" not in value
