"""Batches, secrets, numbers nobody knows; played over Meta, judged over HTTP only."""

import asyncio
import json
from typing import Any

import pytest

from providers.simulator import SimulatedSend, StatusPlan
from providers.simulator.signing import sign_meta
from tests.support.scenario_stage import (
    JUDGED,
    LATE,
    MAIN,
    NEW_SECRET,
    OLD_SECRET,
    Json,
    Stage,
    at_meta,
    body,
    change,
    message,
    now,
    phone,
    profile,
    text,
)
from tests.support.wire import META, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_b1_both_app_secrets_sign_and_nothing_else_does(stage: Stage) -> None:
    mia = phone()
    items = [message(mia, text(f"signed {place}")) for place in range(3)]
    raws = [json.dumps(body(change("messages", {"messages": [item]}))).encode() for item in items]
    headers = {"Content-Type": "application/json"}
    for raw, secret in zip(raws, (OLD_SECRET, NEW_SECRET), strict=False):
        answer = await stage.wire.post(META, raw, headers | {"X-Hub-Signature-256": sign_meta(raw, secret)})
        assert answer.status == 200
    wrong = ["", "sha256=", "sha256=" + "0" * 64, sign_meta(raws[2], "guess"), sign_meta(raws[0], NEW_SECRET), "sha1=x"]
    for signature in wrong:
        answer = await stage.wire.post(META, raws[2], headers | {"X-Hub-Signature-256": signature})
        assert (answer.status, answer.body) == (403, b"")
    assert (await stage.wire.post(META, raws[2], headers)).status == 403
    conversation = (await stage.received(items[1]["id"]))["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation)] == ["signed 1", "signed 0"]


async def test_b2_one_post_for_several_numbers_with_all_sorts_in_it(stage: Stage) -> None:
    mia, bo = phone(), phone()
    conversation = await stage.talk(mia)
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "Soon"))
    finally:
        stage.simulator.status_plan = usual
    read = {"id": sent.provider_id, "status": "read", "timestamp": now(), "recipient_id": mia}
    here, there = message(mia, text("here")), message(mia, text("there"))
    odd = {"id": unique("wamid.odd"), "type": "text"}
    quiz = message(bo, {"type": "quiz_2027", "quiz_2027": {"a": [1]}})
    lost = message(bo, text("for nobody"))
    fault = {"code": 131000, "title": unique("broken")}
    people = [profile(bo, "Bo"), profile(mia)]
    document = body(
        change("messages", {"contacts": people, "messages": [here, odd, quiz], "statuses": [read]}),
        change("messages", {"messages": [lost]}, LATE),
        change("messages", {"errors": [fault]}, JUDGED),
        change("field_of_2027", {"mark": unique("future")}),
        {"field": "messages", "value": None},
        7,
    )
    document["entry"].append({"id": JUDGED.waba_id, "changes": [change("messages", {"messages": [there]}, JUDGED)]})
    assert (await stage.wire.meta(document)).status == 200
    first, other, new = [await stage.received(one["id"]) for one in (here, there, quiz)]
    assert (first["number"], first["conversation"]["id"], first["contact"]["name"]) == (MAIN.e164, conversation, "Mia")
    assert other["number"] == JUDGED.e164
    assert other["contact"]["id"] == first["contact"]["id"]
    assert other["conversation"]["id"] != conversation
    assert (new["message"]["type"], new["contact"]["name"]) == ("unsupported", "Bo")
    assert new["message"]["raw"]["quiz_2027"] == {"a": [1]}
    await stage.ends(str(sent.hub_id), "read")
    reasons = {mark: [one["reason"] for one in await stage.quarantined(mark)] for mark in (lost["id"], fault["title"])}
    assert reasons == {lost["id"]: ["unknown_number"], fault["title"]: ["provider_error"]}
    assert [one["reason"] for one in await stage.quarantined(odd["id"])] == ["no_customer"]


async def test_b4_the_same_webhook_many_times_at_once_is_one_message_of_one_contact(stage: Stage) -> None:
    mia = phone()
    items = [message(mia, text(f"at once {place}")) for place in range(5)]
    documents = [body(change("messages", {"contacts": [profile(mia)], "messages": [item]})) for item in items]
    documents += [body(change("messages", {"messages": items}), change("messages", {"messages": items}))]
    answers = await asyncio.gather(*(stage.wire.meta(one) for one in documents * 5))
    assert {one.status for one in answers} == {200}
    events = [await stage.received(item["id"]) for item in items]
    assert len({one["contact"]["id"] for one in events}) == 1
    assert sorted(one["conversation"]["sequence"] for one in events) == [1, 2, 3, 4, 5]
    assert len(await stage.timeline(events[0]["conversation"]["id"])) == 5


async def test_b8_one_post_in_which_somebody_shows_a_phone_changes_it_and_goes_on(stage: Stage) -> None:
    old, new, user = phone(), phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now(-50)} | text("hidden")
    told = message(old, {"type": "system"}, at=-30)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    items = [
        hidden,
        message(old, text("shown"), from_user_id=user, at=-45),
        message(old, text("by phone"), at=-40),
        told,
        message(new, text("moved"), at=-20),
        message(new, text("moved with id"), from_user_id=user, at=-10),
    ]
    await stage.posts("messages", {"messages": items})
    events = [await stage.received(one["id"]) for one in items]
    assert len({one["conversation"]["id"] for one in events}) == 1
    assert {one["value"] for one in events[-1]["contact"]["addresses"]} == {"+" + new, user}
    sent = await stage.went(await stage.crm.reply(events[0]["conversation"]["id"], "Got it all"))
    assert sent.to == "+" + new


async def test_e7_statuses_of_one_post_in_any_order_end_in_one_state_and_are_told_once(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "Soon"))
        lost = await stage.went(await stage.crm.reply(conversation, "Sorry"))
    finally:
        stage.simulator.status_plan = usual

    def report(of_: SimulatedSend, word: str, **more: Any) -> Json:
        return {"id": of_.provider_id, "status": word, "timestamp": now(), "recipient_id": mia} | more

    fault = {"code": 131026, "title": "Undeliverable", "error_data": {"details": "The customer's phone is off"}}
    words = ["read", "sent", "deleted", "delivered", "read", "word_of_2027"]
    statuses = [report(sent, word) for word in words] + [report(lost, "failed", errors=[fault])]
    for _ in range(2):
        await stage.posts("messages", {"statuses": statuses})
    view = await stage.ends(str(sent.hub_id), "read")
    assert {"sent", "delivered", "read"} <= set(view["status_times"])
    failed = await stage.ends(str(lost.hub_id), "failed")
    assert (failed["error"]["code"], failed["error"]["provider_code"]) == ("undeliverable", "131026")
    hidden = await stage.view(str(lost.hub_id), stage.desk)
    assert (hidden["status"], hidden["masked"], "error" in hidden) == ("failed", True, False)
    assert "phone is off" not in json.dumps([hidden, await stage.ear(stage.desk).pull()])
    told = await stage.ear().of("message.status", lambda d: d["message"]["id"] == sent.hub_id)
    assert len(told) == len({one["message"]["status"] for one in told})


async def test_b5_a_number_registered_late_gets_what_was_quarantined_in_order(stage: Stage) -> None:
    mia = phone()
    said = [message(mia, text(f"early {place}"), at=-60 + place) for place in range(5)]
    for part in (said[:2], said[2:3], said[3:]):
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": part}, LATE)
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": part}, LATE)
    assert {one["reason"] for one in await stage.quarantined(mia)} == {"unknown_number"}
    answer = await stage.world.call("POST", "/v1/admin/numbers", {"e164": LATE.e164, "senders": [at_meta(LATE)]})
    assert answer.status == 201, answer
    for service in (stage.crm, stage.desk):
        await service.connect(LATE.e164, endpoint_url=None)
    replayed = await stage.world.call("POST", "/v1/admin/quarantine/replay", {"reason": "unknown_number"})
    assert replayed.json["taken"] >= 5
    events = [await stage.received(one["id"], stage.desk) for one in said]
    assert {one["number"] for one in events} == {LATE.e164}
    conversation = events[0]["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation, "?after=0")] == [f"early {n}" for n in range(5)]
    assert [one["conversation"]["sequence"] for one in events] == [1, 2, 3, 4, 5]
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": said}, LATE)
    again = await stage.world.call("POST", "/v1/admin/quarantine/replay", {"reason": "unknown_number"})
    assert again.json["replayed"] == 0
    assert len(await stage.timeline(conversation)) == 5
    (sent,) = [await stage.went(await stage.crm.reply(conversation, "Sorry for the wait"))]
    assert sent.sender == LATE.phone_number_id
