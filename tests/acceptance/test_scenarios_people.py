"""Consent, identities and forms of numbers; played over Meta, judged over HTTP only."""

import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from providers.simulator import StatusPlan
from tests.support.scenario_stage import (
    MAIN,
    Json,
    Stage,
    codes,
    concerns,
    counter,
    held,
    message,
    now,
    phone,
    profile,
    text,
)
from tests.support.talk import automates
from tests.support.wire import sms, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_e5_marketing_stopped_in_whatsapps_settings_blocks_marketing_templates_only(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    answer = await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    assert {one["name"] for one in answer.json["items"]} >= {"spring_sale", "order_update"}
    path = f"/v1/consents/whatsapp/{quote('+' + mia)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200

    def prefers(word: str, at: float) -> Json:
        said = {"wa_id": mia, "detail": f"User requested to {word} them", "category": "marketing_messages"}
        return {"contacts": [profile(mia)], "user_preferences": [said | {"value": word, "timestamp": int(now(at))}]}

    def stopped(data: Json) -> bool:
        return data["consent"]["marketing_stopped"] and concerns(data, mia)

    for _ in range(2):
        await stage.posts("user_preferences", prefers("stop", -20))
    (event,) = await stage.ear(stage.desk).hears("consent.changed", stopped)
    assert event["consent"]["number"] in (MAIN.e164, None)
    assert (await stage.consent("+" + mia))["marketing_stopped"] is True
    for origin in ("agent", "campaign", "notification"):
        refused = await stage.template(conversation, "spring_sale", origin)
        assert (refused.status, refused.json["code"]) == (409, "no_consent"), origin
    await stage.went(await automates(stage.crm, conversation, "Your order"))
    await stage.went(await stage.crm.reply(conversation, "Hello"))

    await stage.posts("user_preferences", prefers("resume", -10))
    assert (await stage.consent("+" + mia))["marketing_stopped"] is False
    await stage.went(await stage.template(conversation, "spring_sale", "campaign"))


async def test_e5_a_marketing_stop_of_somebody_who_never_wrote_is_kept(stage: Stage) -> None:
    mia = phone()
    said = {"wa_id": mia, "detail": "User requested to stop", "category": "marketing_messages", "value": "stop"}
    await stage.posts("user_preferences", {"user_preferences": [said | {"timestamp": int(now(-30))}]})
    (event,) = await stage.ear(stage.desk).hears("consent.changed", lambda d: concerns(d, mia))
    assert event["consent"]["marketing_stopped"] is True
    assert event["number"] == MAIN.e164
    conversation = await stage.talk(mia)
    assert (await stage.consent("+" + mia))["marketing_stopped"] is True
    await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    assert (await stage.template(conversation, "spring_sale")).json["code"] == "no_consent"


async def test_e5_a_hidden_customers_marketing_stop_counts_for_their_id(stage: Stage) -> None:
    user = f"DE.{phone('')}"
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    said = {"user_id": user, "detail": "stop", "category": "marketing_messages", "value": "stop"}
    await stage.posts("user_preferences", {"user_preferences": [said | {"timestamp": int(now())}]})
    assert (await stage.consent(user))["marketing_stopped"] is True
    assert (await stage.template(conversation, "spring_sale")).json["code"] == "no_consent"
    await stage.went(await stage.crm.reply(conversation, "Hello"))


async def test_e5_what_was_said_from_an_id_holds_for_the_phone_that_is_shown_later(stage: Stage) -> None:
    mia, user = phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now(-10)} | text("Stop")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [hidden]})
    await stage.received(hidden["id"])
    assert (await stage.consent(user))["status"] == "revoked"
    both = message(mia, text("Me again"), from_user_id=user)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=user)], "messages": [both]})
    conversation = (await stage.received(both["id"]))["conversation"]["id"]
    assert (await stage.consent("+" + mia))["status"] == "revoked"
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"


async def test_e5_a_refusal_for_marketing_is_a_marketing_stop_and_no_other_error_is(stage: Stage) -> None:
    mia, bo = phone(), phone()
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        for who, code in ((mia, 131050), (bo, 131049)):
            conversation = await stage.talk(who)
            path = f"/v1/consents/whatsapp/{quote('+' + who)}"
            assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
            sent = await stage.went(await stage.template(conversation, "spring_sale", "campaign"))
            fault = {"code": code, "title": "No", "message": "No", "error_data": {"details": "No"}}
            report = {"id": sent.provider_id, "status": "failed", "timestamp": now(), "recipient_id": who}
            await stage.posts("messages", {"statuses": [report | {"errors": [fault]}]})
            view = await stage.ends(str(sent.hub_id), "failed")
            assert view["error"]["provider_code"] == str(code)
            assert (await stage.consent("+" + who))["status"] == "granted"
    finally:
        stage.simulator.status_plan = usual
    assert [(await stage.consent("+" + one))["marketing_stopped"] for one in (mia, bo)] == [True, False]


async def test_b8_another_number_is_the_same_contact_with_the_stop_and_without_what_was_granted(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "hello", at=-300)
    contact = (await stage.contacts("+" + old))[0]["id"]
    path = f"/v1/consents/sms/{quote('+' + old)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    await stage.received(await stage.writes(old, "Stop!", at=-200))
    assert (await stage.consent("+" + old))["status"] == "revoked"

    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": f"Mia changed from {old} to {new}", "wa_id": new, "type": "user_changed_number"}
    for _ in range(2):
        await stage.posts("messages", {"messages": [told]})
    event = await stage.received(told["id"])
    assert (event["message"]["type"], event["conversation"]["id"]) == ("system", conversation)
    (kept,) = await stage.contacts("+" + new)
    assert kept["id"] == contact
    updated = await stage.ear().hears("profile.updated", lambda d: d["contact"]["id"] == contact)
    assert "addresses" in updated[-1]["profile"]["changed"]
    assert [one["value"] for one in kept["former_addresses"]] == ["+" + old]
    assert "+" + old not in [one["value"] for one in kept["addresses"]]
    assert (await stage.consent("+" + new))["status"] == "revoked"
    assert (await stage.consent("+" + new, medium="sms"))["status"] != "granted"
    bot = await automates(stage.crm, conversation, "Buy!")
    assert (bot.status, bot.json["code"]) == (409, "no_consent")
    assert (await stage.went(await stage.crm.reply(conversation, "Noted"))).to == "+" + new

    assert await stage.talk(new, "It works") == conversation
    assert await stage.talk(new, "START please") == conversation
    await stage.received(await stage.writes(new, "start"))
    assert (await stage.went(await automates(stage.crm, conversation, "Welcome back"))).to == "+" + new


@pytest.mark.parametrize("medium", ["whatsapp", "sms"])
async def test_e5_services_hear_that_what_was_granted_does_not_go_along_to_another_number(
    stage: Stage, medium: str
) -> None:
    old, new = phone(), phone()
    await stage.talk(old, at=-300)
    path = f"/v1/consents/{medium}/{quote('+' + old)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    await stage.received(told["id"], stage.desk)
    assert (await stage.consent("+" + new, medium=medium))["status"] == "unknown"
    await stage.received(await stage.writes(new, "afterwards"), stage.desk)
    heard = await stage.ear(stage.desk).of("consent.changed", lambda d: d["consent"]["medium"] == medium)
    lost = [one["consent"] for one in heard if concerns(one, new) and one["number"] == MAIN.e164]
    assert [one["status"] for one in lost] == (["unknown"] if medium == "whatsapp" else [])  # no conversation, nobody


async def test_b8_who_writes_from_a_number_that_was_given_up_is_somebody_new(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "hello", at=-300)
    contact = (await stage.contacts("+" + old))[0]["id"]
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    stranger = await stage.talk(old, "Who is this?", at=-10)
    assert stranger != conversation
    (other,) = await stage.contacts("+" + old)
    assert other["id"] != contact
    assert [one["text"] for one in await stage.timeline(stranger)] == ["Who is this?"]
    assert (await stage.went(await stage.crm.reply(stranger, "The shop"))).to == "+" + old
    assert (await stage.went(await stage.crm.reply(conversation, "Hello again"))).to == "+" + new


async def test_b8_who_wrote_from_the_new_number_before_the_news_is_the_same_contact(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "Which one?", at=-300)
    early = await stage.talk(new, "The blue one", at=-60)
    assert early != conversation
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    await stage.received(told["id"])
    (contact,) = await stage.contacts("+" + new)
    answer = await stage.crm.call("GET", f"/v1/contacts/{contact['id']}/timeline?after=0")
    said = [one["text"] for one in answer.json["items"] if one["type"] == "text"]
    assert said == ["Which one?", "The blue one"]
    for one in answer.json["conversations"]:
        assert (await stage.crm.call("GET", f"/v1/contacts/{one['contact']['id']}")).json["id"] == contact["id"]
    assert {one["id"] for one in answer.json["conversations"]} == {conversation, early}
    for one in {conversation, early}:
        assert (await stage.went(await stage.crm.reply(one, "Sure"))).to == "+" + new


async def test_b8_older_news_of_another_number_change_nothing(stage: Stage) -> None:
    first, second, third = phone(), phone(), phone()
    conversation = await stage.talk(first, at=-300)
    for old, new, at in ((first, second, -100), (second, third, -50), (first, second, -100)):
        told = message(old, {"type": "system"}, at=at)
        told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
        await stage.posts("messages", {"messages": [told]})
    (contact,) = await stage.contacts("+" + third)
    assert [one["value"] for one in contact["addresses"] if one["type"] == "phone"] == ["+" + third]
    assert {one["value"] for one in contact["former_addresses"]} == {"+" + first, "+" + second}
    assert (await stage.went(await stage.crm.reply(conversation, "Still you?"))).to == "+" + third


async def test_scheduled_and_template_automation_waits_while_metas_agent_talks_and_can_be_cancelled(
    stage: Stage,
) -> None:
    mia, conversation = await held(stage)
    at_once = {"send_at": datetime.fromtimestamp(time.time() - 60, UTC).isoformat()}
    waiting = [
        await automates(stage.crm, conversation, "planned", "scheduled", **at_once),
        await automates(stage.crm, conversation, "never mind"),
    ]
    assert [codes(one) for one in waiting] == [["conversation_held"]] * 2
    gone = await stage.crm.call("DELETE", f"/v1/messages/{waiting[1].json['message']['id']}")
    assert (gone.status, gone.json["message"]["status"] if "message" in gone.json else gone.json["status"]) == (
        200,
        "cancelled",
    )
    await stage.writes(mia, "Is anybody there?", at=-5)
    assert (await stage.went(waiting[0])).text == "planned"
    assert [one.text for one in stage.simulator.sent if one.to == "+" + mia] == ["planned"]


async def test_e4_other_news_of_the_system_open_no_window(stage: Stage) -> None:
    mia = phone()
    told = message(mia, {"type": "system"})
    told["system"] = {"body": "Mia's security code changed", "type": "customer_identity_changed"}
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [told]})
    event = await stage.received(told["id"])
    assert (event["message"]["type"], event["conversation"]["reply_window_expires_at"]) == ("system", None)
    assert len((await stage.contacts("+" + mia))[0]["addresses"]) == 1


async def test_b8_a_customer_without_a_phone_is_answered_by_id_and_keeps_the_thread_under_another(stage: Stage) -> None:
    first, second = f"US.{phone('')}", f"US.{phone('')}"

    def said(user: str, words: str) -> Json:
        item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text(words)
        who = {"profile": {"name": "Hid", "username": "hid"}, "user_id": user}
        return {"contacts": [who], "messages": [item]}

    asked = said(first, "Do you have it?")
    await stage.posts("messages", asked)
    event = await stage.received(asked["messages"][0]["id"])
    conversation = event["conversation"]["id"]
    assert {one["type"]: one["value"] for one in event["contact"]["addresses"]} == {"user_id": first, "username": "hid"}
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "We do"))
    finally:
        stage.simulator.status_plan = usual
    assert sent.body["recipient"] == first
    assert "to" not in sent.body
    report = {"id": sent.provider_id, "status": "delivered", "timestamp": now(), "recipient_user_id": first}
    await stage.posts("messages", {"statuses": [report]})
    await stage.ends(str(sent.hub_id), "delivered")

    update = {"detail": "User id for User has been updated.", "timestamp": now()}
    update["user_id"] = {"previous": first, "current": second}
    await stage.posts("user_id_update", {"user_id_update": [update]})
    again = said(second, "Two of them")
    await stage.posts("messages", again)
    assert (await stage.received(again["messages"][0]["id"]))["conversation"]["id"] == conversation
    sent = await stage.went(await stage.crm.reply(conversation, "Sure"))
    assert sent.body["recipient"] == second
    assert len(await stage.contacts(second)) == 1


@pytest.mark.parametrize("how", ["field", "system"])
async def test_b8_another_id_of_somebody_with_a_phone_is_theirs(stage: Stage, how: str) -> None:
    mia, old, new = phone(), f"DE.{phone('')}", f"DE.{phone('')}"
    first = message(mia, text("hello"), from_user_id=old, at=-60)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=old)], "messages": [first]})
    conversation = (await stage.received(first["id"]))["conversation"]["id"]
    if how == "field":
        ids = {"previous": old, "current": new}
        update = {"wa_id": mia, "detail": "updated", "timestamp": now(-30), "user_id": ids}
        await stage.posts("user_id_update", {"user_id_update": [update]})
    else:
        told = message(mia, {"type": "system"}, from_user_id=new, at=-30)
        told["system"] = {"type": "user_changed_user_id", "previous_user_id": old, "user_id": new, "body": "changed"}
        await stage.posts("messages", {"messages": [told]})
    later = {"from_user_id": new, "id": unique("wamid.ps"), "timestamp": now()} | text("me, hidden now")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": new}], "messages": [later]})
    event = await stage.received(later["id"])
    assert event["conversation"]["id"] == conversation
    assert {one["value"] for one in event["contact"]["addresses"] if one["type"] == "user_id"} == {new}
    (contact,) = await stage.contacts("+" + mia)
    assert old in [one["value"] for one in contact["former_addresses"]]


async def test_b8_who_hid_a_phone_and_shows_it_later_is_the_same_contact(stage: Stage) -> None:
    mia, user = phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Me")
    await stage.posts("messages", {"contacts": [{"profile": {"name": "Mia"}, "user_id": user}], "messages": [hidden]})
    conversation = (await stage.received(hidden["id"]))["conversation"]["id"]
    both = message(mia, text("Me again"), from_user_id=user)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=user)], "messages": [both]})
    event = await stage.received(both["id"])
    assert event["conversation"]["id"] == conversation
    assert {one["value"] for one in event["contact"]["addresses"]} == {"+" + mia, user}
    assert await stage.talk(mia, "Without my id") == conversation


@pytest.mark.parametrize(
    ("dialled", "reported"),
    [("5511987", "551187"), ("549341", "54341"), ("5255", "52155")],
    ids=["brazil", "argentina", "mexico"],
)
async def test_b8_forms_of_a_number_are_one_contact_and_the_one_that_works_is_remembered(
    stage: Stage, dialled: str, reported: str
) -> None:
    rest = str(100_000 + next(counter))
    rest = rest if dialled.startswith("55") else "4" + rest if dialled.startswith("549") else "41" + rest
    known, asked = "+" + reported + rest, "+" + dialled + rest
    conversation = await stage.talk(known[1:])
    written = dict(sms("hello", asked))
    assert (await stage.wire.twilio(list(written.items()))).status == 200
    event = await stage.received(written["MessageSid"])
    assert event["contact"]["id"] == (await stage.conversation(conversation))["contact"]["id"]
    assert len(await stage.contacts(asked)) == 1
    assert (await stage.went(await stage.crm.reply(conversation, "reported"))).to == known

    stage.simulator.meta_api.refused_forms[known] = 131026
    before = len(stage.simulator.attempts)
    assert (await stage.went(await stage.crm.reply(conversation, "the other"))).to == asked
    assert [one.to for one in stage.simulator.attempts[before:]] == [known, asked]
    assert (await stage.went(await stage.crm.reply(conversation, "remembered"))).to == asked
    assert [one.to for one in stage.simulator.attempts[before:]] == [known, asked, asked]
    assert await stage.talk(known[1:], "still me") == conversation
    assert (await stage.went(await stage.crm.reply(conversation, "yes"))).to == asked
    wanted = {"to": known, "medium": "whatsapp", "from": MAIN.e164, "origin": "agent", "text": "Any form"}
    answer = await stage.crm.call("POST", "/v1/messages", wanted | {"agent": {"id": "a", "name": "Ana"}})
    assert answer.json["message"]["conversation_id"] == conversation
    assert (await stage.went(answer)).to == asked


@pytest.mark.parametrize(
    "form",
    [
        "+5511987{}",
        "+551187{}",
        "+5493414{}",
        "+543414{}",
        "+5215541{}",
        "+525541{}",
        "+22997{}",
        "+2290197{}",
        "+22507{}",
    ],
)
async def test_b8_a_contact_is_found_by_every_form_in_which_it_may_be_shown(stage: Stage, form: str) -> None:
    number = form.format(100_000 + next(counter))
    await stage.talk(number[1:])
    (contact,) = await stage.contacts(number)
    assert number in [one["value"] for one in contact["addresses"]]
    assert (await stage.consent(number))["status"] == "unknown"


async def test_b8_somebody_new_is_written_to_in_the_form_that_works(stage: Stage) -> None:
    rest = str(100_000 + next(counter))
    short, full = f"+551187{rest}", f"+5511987{rest}"
    stage.simulator.meta_api.refused_forms[full] = 131026
    wanted = {"medium": "whatsapp", "from": MAIN.e164, "origin": "notification", "type": "template"}
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]
    wanted["template"] = {"name": "order_update", "language": "en", "components": parameters}
    first = await stage.crm.call("POST", "/v1/messages", wanted | {"to": full})
    assert (await stage.went(first)).to == short
    second = await stage.crm.call("POST", "/v1/messages", wanted | {"to": full})
    assert (await stage.went(second)).to == short
    assert [one.to for one in stage.simulator.attempts if one.to in {short, full}] == [full, short, short]
    assert await stage.talk(short[1:], "obrigada") == first.json["message"]["conversation_id"]


async def test_b8_a_number_that_is_refused_in_every_form_fails_with_the_first_refusal(stage: Stage) -> None:
    rest = str(100_000 + next(counter))
    forms = {f"+551187{rest}", f"+5511987{rest}"}
    conversation = await stage.talk(f"551187{rest}")
    stage.simulator.meta_api.refused_forms |= dict.fromkeys(forms, 131026)
    answer = await stage.crm.reply(conversation, "Anybody?")
    error = (await stage.ends(answer.json["message"]["id"], "failed"))["error"]
    assert (error["code"], error["provider_code"]) == ("undeliverable", "131026")
    assert sorted(one.to or "" for one in stage.simulator.attempts if one.to in forms) == sorted(forms)
    assert (await stage.consent(f"+551187{rest}"))["status"] == "unknown"


async def test_b8_a_brazilian_land_line_has_no_twin(stage: Stage) -> None:
    rest = f"{next(counter):07d}"
    assert await stage.talk(f"55113{rest}") != await stage.talk(f"551193{rest}")
