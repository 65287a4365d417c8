"""Edits, revocations, reactions, calls and groups; played over Meta, judged over HTTP only."""

import json
from typing import Any

import pytest

from tests.support.scenario_stage import (
    MAIN,
    Json,
    Stage,
    body,
    change,
    concerns,
    image,
    message,
    now,
    of,
    phone,
    profile,
    text,
    within,
)
from tests.support.talk import automates
from tests.support.wire import unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_edit_that_overtakes_its_message_loses_neither(stage: Stage) -> None:
    mia = phone()
    first = message(mia, text("Helo"), at=-30)
    edit = {"original_message_id": first["id"], "message": text("Hello")}
    await stage.posts("messages", {"messages": [message(mia, {"type": "edit", "edit": edit}, at=-20)]})
    (early,) = await stage.ear().hears("message.edited", of(first["id"]))
    assert (early["message"]["id"], early["message"]["text"]) == (None, "Hello")
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [first]})
    event = await stage.received(first["id"])
    assert event["conversation"]["id"] == early["conversation"]["id"]
    entries = await stage.timeline(event["conversation"]["id"])
    assert [one["provider_id"] for one in entries] == [first["id"]]


@pytest.mark.parametrize("kind", ["edit", "revoke"])
async def test_a_change_that_overtakes_its_message_is_told_and_the_message_stands_as_it_was(
    stage: Stage, kind: str
) -> None:
    mia = phone()
    first = message(mia, text("Helo"), at=-30)
    said = {"original_message_id": first["id"]} | ({"message": text("Hello")} if kind == "edit" else {})
    for item in (message(mia, {"type": kind, kind: said}, at=-20), first):
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": [item]})
    conversation = (await stage.received(first["id"]))["conversation"]["id"]
    (early,) = await stage.ear().hears({"edit": "message.edited", "revoke": "message.deleted"}[kind], of(first["id"]))
    assert (early["message"]["id"], early["message"]["provider_id"]) == (None, first["id"])
    (entry,) = await stage.timeline(conversation)
    assert entry["text"] == "Helo"


async def test_b6_reactions_edits_and_a_revocation_are_told_in_the_order_they_came(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    sent = await stage.went(await stage.crm.reply(conversation, "Your parcel"))
    mine = await stage.writes(mia, "Where?")
    news = [
        {"type": "reaction", "reaction": {"message_id": sent.provider_id}},
        {"type": "reaction", "reaction": {"message_id": sent.provider_id, "emoji": "👍"}},
        {"type": "reaction", "reaction": {"message_id": sent.provider_id, "emoji": ""}},
        {"type": "reaction", "reaction": {"message_id": "wamid.nobody-knows", "emoji": "❤"}},
        {"type": "edit", "edit": {"original_message_id": mine, "message": text("Where is it?")}},
        {"type": "revoke", "revoke": {"original_message_id": mine}},
    ]
    items = [message(mia, one) for one in news]
    await stage.posts("messages", {"messages": items})
    await stage.posts("messages", {"messages": items})
    await stage.ear(stage.desk).hears("message.deleted", of(mine))
    told = await stage.ear(stage.desk).of("reaction.changed", within(conversation))
    assert [one["reaction"]["emoji"] for one in told] == [None, "👍", None, "❤"]
    assert [one["reaction"]["message"]["id"] for one in told] == [sent.hub_id] * 3 + [None]
    everything = [one for one in await stage.ear(stage.desk).pull() if within(conversation)(one["data"])]
    numbers = [one["data"]["conversation"]["sequence"] for one in everything]
    assert numbers == list(range(1, len(numbers) + 1))
    reaction = {"message_id": await _hub_id(stage, mine), "emoji": "👍"}
    wanted = {"origin": "agent", "agent": {"id": "a"}, "type": "reaction", "reaction": reaction}
    answer = await stage.crm.call("POST", f"/v1/conversations/{conversation}/messages", wanted)
    assert (answer.status, answer.json["code"]) == (422, "unknown_message")


async def _hub_id(stage: Stage, provider_id: str) -> str:
    return str((await stage.received(provider_id))["message"]["id"])


async def test_e5_a_message_that_is_edited_to_stop_counts_and_one_that_quotes_it_does_not(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia, "stop sending the blue one")
    assert (await stage.consent("+" + mia))["status"] == "unknown"
    mine = await stage.writes(mia, "Hm")
    edit = {"original_message_id": mine, "message": text("  ¡Stop!! ")}
    await stage.posts("messages", {"messages": [message(mia, {"type": "edit", "edit": edit})]})
    (event,) = await stage.ear(stage.desk).hears("consent.changed", lambda d: concerns(d, mia))
    assert (event["consent"]["status"], event["consent"]["keyword"]) == ("revoked", "stop")
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"
    await stage.went(await stage.desk.reply(conversation, "We heard you"))


async def test_e4_a_customers_call_opens_the_reply_window_and_the_business_own_does_not(stage: Stage) -> None:
    mia, bo = phone(), phone()

    def call(who: str, event: str, call_id: str, *, ours: bool = False, **more: Any) -> Json:
        sides = (MAIN.e164[1:], who) if ours else (who, MAIN.e164[1:])
        fields = {"id": call_id, "from": sides[0], "to": sides[1], "event": event, "timestamp": now()}
        return fields | {"direction": "BUSINESS_INITIATED" if ours else "USER_INITIATED"} | more

    sdp = {"session": {"sdp_type": "offer", "sdp": "v=0"}}
    first, second = unique("wacid."), unique("wacid.")
    await stage.posts("calls", {"contacts": [profile(mia)], "calls": [call(mia, "connect", first, **sdp)]})
    ended = {"status": "COMPLETED", "start_time": now(-33), "end_time": now(), "duration": 33}
    await stage.posts("calls", {"calls": [call(mia, "terminate", first, **ended)]})
    await stage.posts("calls", {"calls": [call(bo, "connect", second, ours=True, **sdp)]})
    talked, called = await stage.found("+" + mia), await stage.found("+" + bo)
    assert talked["reply_window_expires_at"] is not None
    assert called["reply_window_expires_at"] is None
    entries = await stage.timeline(talked["id"], "?after=0")
    assert [(one["type"], one["call"]["event"]) for one in entries] == [("call", "connect"), ("call", "terminate")]
    assert entries[1]["call"]["duration"] == 33
    assert "v=0" not in json.dumps(entries)
    await stage.went(await stage.crm.reply(talked["id"], "You called?"))
    assert (await stage.crm.reply(called["id"], "We called")).json["code"] == "reply_window_closed"


async def test_b5_groups_do_no_harm(stage: Stage) -> None:
    mia = phone()
    word = message(mia, text("STOP"), group_id="120363000000000001")
    picture = message(mia, image("999", "In the group"), group_id="120363000000000001")
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [word, picture]})
    events = [await stage.received(one["id"]) for one in (word, picture)]
    assert {one["message"]["type"] for one in events} == {"unsupported"}
    assert events[0]["message"]["raw"]["group_id"] == word["group_id"]
    assert "text" not in events[0]["message"]
    assert {one["conversation"]["reply_window_expires_at"] for one in events} == {None}
    assert (await stage.consent("+" + mia))["status"] != "revoked"
    answer = await stage.crm.reply(events[0]["conversation"]["id"], "Hello group")
    assert (answer.status, answer.json["code"]) in {(409, "reply_window_closed"), (409, "no_address")}
    report = {"id": unique("wamid.g"), "status": "delivered", "timestamp": now(), "recipient_type": "group"}
    await stage.posts("messages", {"statuses": [report | {"recipient_id": word["group_id"]}]})
    assert [one["state"] for one in await stage.quarantined(report["id"])] == ["noted"]


async def test_b5_what_is_no_business_of_the_hub_is_noted_and_needs_nobody(stage: Stage) -> None:
    mark = unique("noted")
    said = {
        "smb_app_state_sync": {"state_sync": [{"type": "contact", "contact": {"full_name": mark}, "action": "add"}]},
        "group_lifecycle_update": {"groups": [{"group_id": mark, "type": "group_create", "timestamp": now()}]},
        "group_participants_update": {"groups": [{"group_id": mark, "type": "group_participants_add"}]},
        "flows": {"event": "FLOW_STATUS_CHANGE", "message": mark, "flow_id": "1"},
        "tracking_events": {"events": [{"mark": mark}]},
    }
    assert (await stage.wire.meta(body(*(change(name, value) for name, value in said.items())))).status == 200
    found = await stage.quarantined(mark)
    assert {(one["state"], one["reason"]) for one in found} == {("noted", "not_needed")}
    assert len(found) == len(said)


async def test_b5_reactions_edits_and_deletions_in_a_group_touch_nothing_private(stage: Stage) -> None:
    mia, group = phone(), "120363000000000003"
    conversation = await stage.talk(mia)
    mine = await stage.writes(mia, "private")
    news = [
        {"type": "reaction", "reaction": {"message_id": mine, "emoji": "👍"}},
        {"type": "edit", "edit": {"original_message_id": mine, "message": text("STOP")}},
        {"type": "revoke", "revoke": {"original_message_id": mine}},
    ]
    items = [message(mia, one, group_id=group) for one in news]
    await stage.posts("messages", {"messages": items})
    await stage.received(await stage.writes(mia, "afterwards"))
    (entry,) = [one for one in await stage.timeline(conversation) if one["provider_id"] == mine]
    assert (entry["text"], entry.get("edited_at"), entry.get("deleted_at")) == ("private", None, None)
    assert (await stage.consent("+" + mia))["status"] == "unknown"
    assert await stage.quarantined(mine, state="open") == []


async def test_e4_a_group_message_does_not_move_the_window_of_a_private_conversation(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia, at=-3600)
    before = (await stage.conversation(conversation))["reply_window_expires_at"]
    await stage.posts("messages", {"messages": [message(mia, text("in a group"), group_id="120363000000000002")]})
    assert (await stage.conversation(conversation))["reply_window_expires_at"] == before
