"""The business elsewhere: its phone app, what was before, Meta's own agent; played over Meta, judged over HTTP only."""

import pytest

from tests.support.scenario_stage import (
    DAY,
    MAIN,
    PNG,
    Json,
    Stage,
    body,
    change,
    codes,
    control,
    echo,
    held,
    image,
    message,
    now,
    of,
    phone,
    profile,
    text,
    time_of,
    within,
)
from tests.support.talk import automates
from tests.support.wire import unique, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_b2_echoes_of_the_phone_app_come_with_their_files_and_give_no_rights(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    window = (await stage.conversation(conversation))["reply_window_expires_at"]
    file = stage.simulator.add_inbound_media(PNG, "image/png")
    echoes = [echo(mia, text("STOP"), timestamp=now(60)), echo(mia, image(file, "The blue one"))]
    for _ in range(2):
        await stage.posts("smb_message_echoes", {"message_echoes": echoes})
    for service in (stage.crm, stage.desk):
        word, picture = [await stage.received(one["id"], service) for one in echoes]
        assert [one["message"]["origin"] for one in (word, picture)] == ["echo", "echo"]
        assert {one["message"]["direction"] for one in (word, picture)} == {"outbound"}
        assert {one["conversation"]["id"] for one in (word, picture)} == {conversation}
        assert picture["message"]["author"] is None
        assert picture["message"]["text"] == "The blue one"
        assert "masked" not in picture["message"]
        (kept,) = picture["message"]["media"]
        assert (await stage.fetch(kept["url"])).body == PNG
    assert (await stage.conversation(conversation))["reply_window_expires_at"] == window
    assert (await stage.consent("+" + mia))["status"] != "revoked"
    assert [one["origin"] for one in await stage.timeline(conversation)] == ["echo", "echo", "customer"]
    assert (await stage.went(await automates(stage.crm, conversation, "I am a bot"))).to == "+" + mia


async def test_b8_an_echo_to_a_customer_without_a_phone_joins_their_thread(stage: Stage) -> None:
    user = f"DE.{phone('')}"
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    sent = {"from": MAIN.e164[1:], "to_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello you")
    await stage.posts("smb_message_echoes", {"message_echoes": [sent]})
    event = await stage.received(sent["id"])
    assert (event["conversation"]["id"], event["message"]["origin"]) == (conversation, "echo")


async def test_e4_an_echo_to_somebody_new_opens_no_reply_window(stage: Stage) -> None:
    mia = phone()
    sent = echo(mia, text("Your parcel is here"))
    await stage.posts("smb_message_echoes", {"message_echoes": [sent]})
    event = await stage.received(sent["id"])
    assert event["conversation"]["reply_window_expires_at"] is None
    answer = await stage.crm.reply(event["conversation"]["id"], "And this?")
    assert (answer.status, answer.json["code"], answer.json["closed_at"]) == (409, "reply_window_closed", None)


async def test_b2_the_phone_app_edits_and_deletes_what_it_wrote(stage: Stage) -> None:
    mia = phone()
    await stage.talk(mia)
    sent = echo(mia, text("Ten euros"))
    edited = echo(mia, {"type": "edit", "edit": {"original_message_id": sent["id"], "message": text("Nine euros")}})
    gone = echo(mia, {"type": "revoke", "revoke": {"original_message_id": sent["id"]}})
    for one in (sent, edited, gone):
        await stage.posts("smb_message_echoes", {"message_echoes": [one]})
    first = await stage.received(sent["id"])
    ear = stage.ear(stage.desk)
    (change_,) = await ear.hears("message.edited", of(sent["id"]))
    (end,) = await ear.hears("message.deleted", of(sent["id"]))
    assert change_["message"]["text"] == "Nine euros"
    assert {one["message"]["id"] for one in (change_, end)} == {first["message"]["id"]}
    assert {one["message"]["origin"] for one in (change_, end)} == {"echo"}
    assert {one["message"]["direction"] for one in (change_, end)} == {"outbound"}


async def test_history_in_pieces_out_of_order_is_shown_and_has_no_effect(stage: Stage) -> None:
    mia, bo = phone(), phone()

    def past(who: str, said: str, days: float, status: str = "READ", *, ours: bool = False) -> Json:
        names = {"from": MAIN.e164[1:], "to": who} if ours else {"from": who}
        fields = {"id": unique("wamid.old"), "timestamp": now(-days * DAY), "history_context": {"status": status}}
        return fields | names | text(said)

    def piece(chunk: int, threads: Json) -> Json:
        listed = [{"id": who, "messages": messages} for who, messages in threads.items()]
        return {"history": [{"metadata": {"phase": 0, "chunk_order": chunk, "progress": 50}, "threads": listed}]}

    stop = past(mia, "STOP", 0.04)
    newer = piece(2, {mia: [past(mia, "Blue", 1), stop], bo: [past(bo, "Bye", 1, "DELIVERED", ours=True)]})
    older = piece(1, {mia: [past(mia, "Which?", 3), past(mia, "Red?", 2, ours=True)], bo: [past(bo, "Hi", 2)]})
    for part in (newer, older, newer):
        await stage.posts("history", part)
    talked, shown = await stage.found("+" + mia), await stage.found("+" + bo)
    assert talked["reply_window_expires_at"] is None
    assert (await stage.crm.reply(talked["id"], "Hello?")).json["code"] == "reply_window_closed"
    assert (await stage.consent("+" + mia))["status"] == "unknown"

    live = await stage.writes(mia, "Here I am")
    await stage.received(live)
    assert await stage.ear().of("message.received", within(shown["id"])) == []
    heard = await stage.ear().of("message.received", within(talked["id"]))
    assert [one["message"]["text"] for one in heard] == ["Here I am"]

    for thread, said in ((talked, ["Which?", "Red?", "Blue", "STOP", "Here I am"]), (shown, ["Hi", "Bye"])):
        in_time = await stage.timeline(thread["id"], "?sort=provider_time&after=0")
        assert [one["text"] for one in in_time] == said
    by_number = await stage.timeline(talked["id"], "?after=-1000")
    numbers = [one["sequence"] for one in by_number]
    assert numbers == sorted(set(numbers))
    assert sorted(n for n in numbers if n <= 0) == [-3, -2, -1, 0]
    assert [one.get("history", False) for one in by_number] == [True] * 4 + [False]
    (red,) = [one for one in by_number if one["text"] == "Red?"]
    assert (red["direction"], red["status"]) == ("outbound", "read")
    (bye,) = [one for one in await stage.timeline(shown["id"], "?after=-1000") if one["text"] == "Bye"]
    assert bye["status"] == "delivered"
    assert next(one for one in by_number if one["text"] == "Which?")["direction"] == "inbound"


@pytest.mark.parametrize("order", ["history first", "live first"])
async def test_b4_b7_a_message_of_history_that_comes_live_too_is_told_once(stage: Stage, order: str) -> None:
    mia = phone()
    live = message(mia, text("Twice"))
    old = live | {"history_context": {"status": "READ"}}
    thread = {"id": mia, "messages": [old]}
    history = {"history": [{"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": [thread]}]}
    posts = [("history", history), ("messages", {"contacts": [profile(mia)], "messages": [live]})]
    for name, value in posts if order == "history first" else reversed(posts):
        await stage.posts(name, value)
    conversation = await stage.talk(mia, "And this")
    assert len(await stage.ear(stage.desk).hears("message.received", of(live["id"]))) == 1
    entries = await stage.timeline(conversation, "?sort=provider_time&after=0")
    assert [(one["text"], one.get("history", False)) for one in entries] == [("Twice", False), ("And this", False)]


async def test_history_of_somebody_without_a_phone_and_a_refusal_to_share_it(stage: Stage) -> None:
    user, mark = f"DE.{phone('')}", unique("declined")
    old = {"from_user_id": user, "id": unique("wamid.old"), "timestamp": now(-DAY)} | text("long ago")
    old["history_context"] = {"status": "READ"}
    thread = {"context": {"user_id": user, "username": "hid"}, "messages": [old]}
    pieces = [{"metadata": {"phase": 1, "chunk_order": 1, "progress": 100}, "threads": [thread]}]
    await stage.posts("history", {"history": pieces})
    fault = {"code": 2593109, "title": mark, "message": mark, "error_data": {"details": "turned off"}}
    await stage.posts("history", {"history": [{"errors": [fault]}]})
    assert [one["state"] for one in await stage.quarantined(mark)] == ["noted"]
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("today")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation, "?after=-9")] == ["long ago", "today"]


async def test_history_files_come_later_and_are_fetched(stage: Stage) -> None:
    mia, file = phone(), stage.simulator.add_inbound_media(PNG + b"history", "image/png")
    old = {"from": mia, "id": unique("wamid.old"), "timestamp": now(-DAY), "history_context": {"status": "READ"}}
    thread = {"id": mia, "messages": [old | {"type": "media_placeholder"}]}
    history = {"history": [{"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": [thread]}]}
    await stage.posts("history", history)
    conversation = (await stage.found("+" + mia))["id"]
    (entry,) = await stage.timeline(conversation, "?after=-1000")
    assert (entry["type"], entry["history"]) == ("media_placeholder", True)
    await stage.posts("history", {"messages": [old | image(file, "Look", PNG + b"history")]})

    async def filled() -> Json | None:
        (only,) = await stage.timeline(conversation, "?after=-1000")
        return only if only["type"] == "image" else None

    entry = await until(filled)
    assert (entry["history"], entry["text"], entry["sequence"]) == (True, "Look", 0)
    assert (await stage.fetch(entry["media"][0]["url"])).body == PNG + b"history"


async def test_bots_wait_while_metas_agent_talks_and_go_in_order_when_it_gives_back(stage: Stage) -> None:
    mia, conversation = await held(stage)
    words = {"to": mia, "recipient": mia} | text("Until six")
    said = {"id": unique("wamid.ai"), "timestamp": now(-50), "message": words}
    await stage.posts("standby", {"standby": {"message_echoes": [said]}})
    for service in (stage.crm, stage.desk):
        event = await stage.received(said["id"], service)
        assert (event["message"]["origin"], event["message"]["direction"]) == ("external", "outbound")
        assert event["message"]["text"] == "Until six"
        assert event["automation"]["allowed"] is False
        assert event["conversation"]["held_by"] == "external"
    waiting = [await automates(stage.crm, conversation, f"bot {place}") for place in range(3)]
    assert [(one.status, codes(one)) for one in waiting] == [(202, ["conversation_held"])] * 3
    elsewhere = await stage.talk(phone())
    await stage.went(await automates(stage.crm, elsewhere, "free"))
    assert {(await stage.view(one.json["message"]["id"]))["status"] for one in waiting} == {"queued"}

    given_back = body(change("messaging_handovers", control(mia, "business", -30), None))
    assert (await stage.wire.meta(given_back)).status == 200
    events = await stage.ear(stage.desk).hears("conversation.handover", within(conversation), 2)
    assert [one["handover"]["holder"] for one in events] == ["external", "hub"]
    assert [(await stage.went(one)).text for one in waiting] == ["bot 0", "bot 1", "bot 2"]
    assert [one.text for one in stage.simulator.sent if one.to == "+" + mia] == ["bot 0", "bot 1", "bot 2"]
    view = await stage.conversation(conversation)
    assert view["held_by"] is None
    kinds = [one["type"] for one in await stage.timeline(conversation)]
    assert sorted(kinds) == ["handover"] * 2 + ["text"] * 6


async def test_a_handover_of_somebody_who_never_wrote_holds_bots_from_their_first_word(stage: Stage) -> None:
    mia = phone()
    assert (await stage.wire.meta(body(change("messaging_handovers", control(mia, "agent", -30), None)))).status == 200
    assert await stage.quarantined(mia, state="open") == []
    asked = message(mia, text("Hello?"), at=-20)
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": [asked]}})
    event = await stage.received(asked["id"])
    conversation = event["conversation"]["id"]
    assert (event["conversation"]["held_by"], event["automation"]["allowed"]) == ("external", False)
    told = await stage.ear().of("conversation.handover", within(conversation))
    assert [one["handover"]["holder"] for one in told] == ["external"]
    assert codes(await automates(stage.crm, conversation, "Hi")) == ["conversation_held"]


async def test_an_agents_reply_takes_control_at_once_and_a_template_does_not(stage: Stage) -> None:
    mia, conversation = await held(stage)
    bot = await automates(stage.crm, conversation, "I was first")
    update = {"name": "order_update", "language": "en"}
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]
    wanted = {"origin": "agent", "agent": {"id": "a", "name": "Ana"}, "type": "template"}
    wanted["template"] = update | {"components": parameters}
    await stage.went(await stage.desk.call("POST", f"/v1/conversations/{conversation}/messages", wanted))
    assert (await stage.conversation(conversation))["held_by"] == "external"
    assert (await stage.view(bot.json["message"]["id"]))["status"] == "queued"

    reply = await stage.desk.reply(conversation, "I am here now.", agent="Ben")
    assert "conversation_held" not in codes(reply)
    await stage.went(reply)
    events = await stage.ear().hears("conversation.handover", within(conversation), 2)
    told = events[1]["message"]["handover"]
    assert (events[1]["handover"]["holder"], told["reason"]) == ("hub", "reply")
    assert told["message_id"] == reply.json["message"]["id"]
    assert told["by"]["service_id"] == stage.desk.id
    await stage.went(bot)
    heard = [one.text for one in stage.simulator.sent if one.to == "+" + mia and one.type == "text"]
    assert heard == ["I am here now.", "I was first"]


async def test_e5_what_a_customer_says_to_metas_agent_counts_with_its_files(stage: Stage) -> None:
    mia, conversation = await held(stage)
    content = PNG + unique("standby").encode()
    file = stage.simulator.add_inbound_media(content, "image/png")
    said = [message(mia, text("Stop."), at=-20), message(mia, image(file, "this", content), at=-19)]
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": said}})
    word, picture = [await stage.received(one["id"], stage.desk) for one in said]
    assert {one["conversation"]["id"] for one in (word, picture)} == {conversation}
    assert (await stage.consent("+" + mia))["status"] == "revoked"
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"
    assert (await stage.fetch(picture["message"]["media"][0]["url"])).body == content
    opened = time_of(picture["conversation"]["reply_window_expires_at"])
    assert opened == int(said[1]["timestamp"]) + DAY


async def test_old_news_of_who_holds_a_conversation_change_nothing(stage: Stage) -> None:
    mia, conversation = await held(stage)
    for to, at in (("business", -90), ("agent", -100)):
        old = body(change("messaging_handovers", control(mia, to, at), None))
        assert (await stage.wire.meta(old)).status == 200
    assert (await stage.conversation(conversation))["held_by"] == "external"
    back = await stage.writes(mia, "Is this a person?", at=-10)
    event = await stage.received(back)
    assert event["conversation"]["id"] == conversation
    await stage.ear().hears("conversation.handover", within(conversation), 2)
    assert (await stage.conversation(conversation))["held_by"] is None
    late = message(mia, text("Late to the agent"), at=-40)
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": [late]}})
    await stage.received(late["id"])
    assert (await stage.conversation(conversation))["held_by"] is None
