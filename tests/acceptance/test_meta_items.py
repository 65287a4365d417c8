"""What comes from Meta beside messages of just now, taken in over HTTP (rules B2 to B8, E4, E5)."""

import time
from typing import Any

from providers.simulator import Number, Person, meta_account, meta_fields
from providers.simulator.meta_fields import Past, placeholder
from tests.support.talk import MIA, pages, timeline
from tests.support.wire import Wire, ask, envelope, sms, text, unique, until, value
from tests.support.world import NUMBER, PHONE_NUMBER_ID, Service, World

SENDER = Number(NUMBER, PHONE_NUMBER_ID)
OTTO = Person("+4915100000042", name="Otto")
LONG_AGO = time.time() - 90 * 86400


def said(words: str) -> dict[str, Any]:
    """A text, as Meta has it inside a message."""
    return {"type": "text", "text": {"body": words}}


def image(media_id: str, caption: str) -> dict[str, Any]:
    """A picture, as Meta has it inside a message."""
    return {"type": "image", "image": {"id": media_id, "mime_type": "image/jpeg", "caption": caption}}


async def posts(wire: Wire, *bodies: Any) -> None:
    """Meta posts these, one after the other."""
    for body in bodies:
        assert (await wire.meta(body)).status == 200


def told(service: Service) -> list[tuple[str, str | None]]:
    """What a service heard: types, and texts or types of messages."""
    views = [(d.type, d.data.get("message") or {}) for d in service.endpoint.deliveries if "contact" in d.data]
    return [(kind, view.get("text") or view.get("type")) for kind, view in views]


async def of_person(service: Service, person: Person) -> dict[str, Any]:
    """The conversation with somebody."""
    listed = await pages(lambda path: service.call("GET", path), "/v1/conversations")
    [found] = [one for one in listed if person.phone in [a["value"] for a in one["contact"]["addresses"]]]
    return found


async def test_b2_b4_history_is_kept_below_the_first_message_and_told_to_nobody(
    hub_world: World, database_url: str
) -> None:
    wire = Wire(hub_world)
    [helpdesk] = await hub_world.connected("helpdesk")
    [alone] = await hub_world.connected("alone", plan="standalone")
    live, first, sent, picture, early = (unique() for _ in range(5))
    await posts(wire, envelope(value([text("Hello", id=live)], contacts=[contact("Mia")])))
    conversation = (await helpdesk.endpoint.hears("message.received", 1))[0].data["conversation"]["id"]
    await alone.endpoint.hears("message.received", 1)

    # What had become of a message, and its file, may be told before the message is.
    read = {"id": sent, "status": "read", "timestamp": str(int(LONG_AGO)), "recipient_id": MIA.phone[1:]}
    await posts(wire, envelope(value([read], name="statuses")))
    threads = {
        MIA: [
            Past(said("STOP"), first, LONG_AGO),
            Past(said("We are closed"), sent, LONG_AGO + 60, by_business=True, status="DELIVERED"),
            Past(placeholder(), picture, LONG_AGO + 120),
            Past(said("Hello"), live, time.time()),
        ],
        OTTO: [Past(said(f"{n}"), unique(), LONG_AGO + n) for n in (3, 2, 1)],
    }
    mia = Person(MIA.phone, name="Wilhelmina")
    body = meta_fields.history(SENDER, {mia: threads[MIA], OTTO: threads[OTTO]})
    await posts(wire, body, body)
    await posts(wire, meta_fields.history(SENDER, {MIA: [Past(said("Long before"), early, LONG_AGO - 60)]}, chunk=2))
    await posts(wire, meta_fields.history_media(SENDER, MIA, Past(image("MEDIA", "Look"), picture, LONG_AGO + 120)))

    for service in (helpdesk, alone):
        mine = await of_person(service, MIA)
        entries = await timeline(service, mine["id"])
        assert [(e["sequence"], e["type"], e.get("text")) for e in entries] == [
            (1, "text", "Hello"), (0, "image", "Look"), (-1, "text", "We are closed"), (-2, "text", "STOP"),
            (-3, "text", "Long before"),
        ]  # fmt: skip
        assert [e.get("history", False) for e in entries] == [False, True, True, True, True]
        assert [(e["direction"], e["origin"], e.get("status")) for e in entries[1:3]] == [
            ("inbound", "customer", None), ("outbound", "echo", "read")
        ]  # fmt: skip
        assert entries[1]["media"][0]["id"].startswith("med_")
        assert "MEDIA" not in str(entries)
        assert not any("edited_at" in entry for entry in entries)
        assert mine["contact"]["name"] == "Mia"
        others = await timeline(service, (await of_person(service, OTTO))["id"])
        assert [(e["sequence"], e["text"]) for e in others] == [(0, "3"), (-1, "2"), (-2, "1")]
    otto = await of_person(helpdesk, OTTO)
    assert otto["reply_window_expires_at"] is None
    assert (await helpdesk.reply(otto["id"], "Hi")).json["code"] == "reply_window_closed"
    assert await ask(database_url, "select count(*) from consent_event") == 0

    # Nobody heard of it; what is said now goes on from the last number, and is about what was said then.
    reaction = {"type": "reaction", "reaction": {"message_id": sent, "emoji": "👍"}}
    await posts(wire, envelope(value([text("After") | {"text": None} | reaction, text("Now", sender=OTTO.phone[1:])])))
    heard = (await helpdesk.endpoint.hears("reaction.changed", 1))[0].data
    assert heard["reaction"]["message"]["provider_id"] == sent
    assert heard["reaction"]["message"]["id"]
    assert heard["conversation"]["id"] == conversation
    assert heard["conversation"]["sequence"] == 2
    await helpdesk.endpoint.hears("message.received", 2)
    assert sorted(told(helpdesk)) == [
        ("message.received", "Hello"), ("message.received", "Now"), ("reaction.changed", None)
    ]  # fmt: skip


def contact(name: str, person: Person = MIA) -> dict[str, Any]:
    """How Meta introduces somebody."""
    return {"wa_id": person.phone[1:], "profile": {"name": name}}


async def test_e4_e5_what_is_not_said_to_us_opens_no_window(hub_world: World, database_url: str) -> None:
    wire = Wire(hub_world)
    [helpdesk] = await hub_world.connected("helpdesk")
    now = int(time.time())

    # A group message: kept whole, neither a consent, nor a window.
    await posts(wire, envelope(value([text("STOP", group_id="GROUP", sender=OTTO.phone[1:])])))
    [group] = await helpdesk.endpoint.hears("message.received", 1)
    assert group.data["message"]["type"] == "unsupported"
    assert group.data["message"]["raw"]["group_id"] == "GROUP"
    assert group.data["conversation"]["reply_window_expires_at"] is None
    assert await ask(database_url, "select count(*) from consent_event") == 0

    # Calls are entries; who calls opens the window, and Meta's agent has no hand in it.
    calls = [
        meta_fields.call(SENDER, MIA, call_id="wacid.1", event="connect", at=now - 60),
        meta_fields.call(SENDER, MIA, call_id="wacid.1", event="terminate", at=now, duration=60, status="COMPLETED"),
    ]
    await posts(wire, *calls, calls[0])
    entries = [d.data for d in (await helpdesk.endpoint.hears("message.received", 3))[1:]]
    assert [(e["message"]["type"], e["message"]["call"]["event"]) for e in entries] == [
        ("call", "connect"), ("call", "terminate")
    ]  # fmt: skip
    assert entries[1]["message"]["call"]["duration"] == 60
    assert "sdp" not in str(entries).lower()
    assert entries[0]["conversation"]["reply_window_expires_at"] is not None
    ours = {"id": "wacid.2", "to": MIA.phone[1:], "from": NUMBER[1:], "event": "connect", "timestamp": str(now),
            "direction": "BUSINESS_INITIATED"}  # fmt: skip
    await posts(wire, envelope(value([ours], name="calls"), field="calls"))
    ours = (await helpdesk.endpoint.hears("message.received", 4))[-1].data
    assert (ours["message"]["direction"], ours["message"]["status"]) == ("outbound", "sent")
    assert ours["conversation"]["held_by"] is None
    assert ours["automation"]["allowed"] is False

    # What the phone app sent is in the timeline once, whoever tells of it.
    echo = meta_fields.echo(SENDER, MIA, said("From the app"), message_id=unique(), at=now)
    await posts(wire, echo)
    past = echo["entry"][0]["changes"][0]["value"]["message_echoes"][0]["id"]
    await posts(wire, meta_fields.history(SENDER, {MIA: [Past(said("From the app"), past, now, by_business=True)]}))
    conversation = (await helpdesk.endpoint.hears("message.received", 5))[-1].data["conversation"]["id"]
    assert [e.get("text") for e in await timeline(helpdesk, conversation)].count("From the app") == 1

    # Another number of the same customer: one contact, its entry, and replies go to the new one.
    moved = text("", type="system", id=unique(), timestamp=str(now + 1))
    moved["system"] = {"body": "Mia changed", "type": "user_changed_number", "wa_id": "4915199999999"}
    await posts(wire, envelope(value([moved])))
    entry = (await helpdesk.endpoint.hears("message.received", 6))[-1].data
    assert entry["message"]["type"] == "system"
    assert entry["conversation"]["id"] == conversation
    assert "+4915199999999" in [address["value"] for address in entry["contact"]["addresses"]]
    await posts(wire, envelope(value([text("It is me", sender="4915199999999")])))
    again = (await helpdesk.endpoint.hears("message.received", 7))[-1].data
    assert again["conversation"]["id"] == conversation
    assert again["contact"]["id"] == entry["contact"]["id"]


async def test_b5_what_was_quarantined_is_taken_in_at_once_and_in_order(hub_world: World, database_url: str) -> None:
    wire, words = Wire(hub_world), [f"{n}" for n in range(12)]
    unknown, number_id = "+15550003333", "100000000000003"
    await posts(
        wire, envelope(*[value([text(word) for word in words[k : k + 4]], number_id=number_id) for k in (0, 4, 8)])
    )
    assert (await wire.twilio(sms("by SMS", to=unknown))).status == 200
    number = Number(unknown, number_id, waba_id="777")
    notices = [
        meta_account.account_reviewed(number, "REJECTED", at=time.time()),
        meta_account.phone_quality(number, "FLAGGED", at=time.time()),
    ]
    await posts(wire, *notices)
    history = meta_fields.history(number, {MIA: [Past(said("Once"), unique(), LONG_AGO)]})
    await posts(wire, history)
    held = await wire.quarantine(state="open")
    assert [e["reason"] for e in held] == ["unknown_number"] * 13 + ["unknown_account"] * 2 + ["unknown_number"]
    assert [e["id"] for e in await wire.quarantine(reason="unknown_account")] == [e["id"] for e in held[13:15]]

    async def replays(**body: Any) -> dict[str, Any]:
        answer = await hub_world.call("POST", "/v1/admin/quarantine/replay", body)
        assert answer.status == 200, answer
        return dict(answer.json)

    assert await replays(provider="twilio") == {
        "replayed": 0, "taken": 0, "duplicates": 0, "still_quarantined": 1, "reasons": {"unknown_number": 1},
        "skipped": [], "next": None,
    }  # fmt: skip
    assert (await hub_world.call("POST", "/v1/admin/quarantine/replay", {"ids": ["x"], "a": 1})).status == 422
    assert len(await wire.quarantine(state="open")) == len(held)

    senders = [
        {"medium": "whatsapp", "provider": "meta", "external_id": number_id},
        {"medium": "sms", "provider": "twilio", "external_id": unknown},
    ]
    made = await hub_world.call("POST", "/v1/admin/numbers", {"e164": unknown, "senders": senders})
    assert made.status == 201, made
    helpdesk = await hub_world.service("helpdesk")
    await helpdesk.connect(unknown)
    live = envelope(value([text("live", id="wamid.live")], number_id=number_id))
    live["entry"][0]["id"] = "777"  # from here on, the account is one of ours
    await posts(wire, live)
    done = await replays(reason="unknown_number", ids=[e["id"] for e in held] + ["999999"])
    assert (done["replayed"], done["taken"], done["skipped"]) == (14, 14, [held[13]["id"], held[14]["id"], "999999"])
    assert (await replays())["replayed"] == 2
    await until(lambda: len(helpdesk.endpoint.of("message.received")) == 14)
    heard = [d.data["message"]["text"] for d in helpdesk.endpoint.of("message.received")]
    assert [word for word in heard if word not in {"live", "by SMS"}] == words
    await helpdesk.endpoint.hears("sender.health_changed", 1)
    assert await ask(database_url, "select count(*) from message where history") == 1
    assert await ask(database_url, "select count(*) from sender where seen_account = '777'") == 1

    # What Twilio lists is read by a route of its own, which nobody can call.
    assert (await wire.twilio(sms("made up"), path="/webhooks/twilio/listed")).status == 404

    # Where nothing reads what came by a path any more, that is said.
    await ask(
        database_url,
        "insert into quarantine (item_key, provider, path, reason, detail, raw)"
        " values ('x', 'gone', '/webhooks/gone', 'no_such_route', '', '{}')",
    )
    [lost] = await wire.quarantine(state="open")
    assert (await wire.replay(lost)).json["code"] == "no_such_route"
    assert (await replays())["reasons"] == {"no_such_route": 1}
