"""Health of the sender, and throttling; played over Meta, judged over HTTP only."""

import json
from urllib.parse import quote, urlencode

import pytest

from providers.simulator import Fault, Number
from providers.simulator.signing import sign_twilio
from tests.support.scenario_stage import JUDGED, MAIN, SLOWED, Judge, Stage, phone
from tests.support.talk import automates
from tests.support.wire import FORM, PUBLIC_URL, TWILIO, sms, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_revoked_token_is_told_and_over_with_the_next_message_that_goes(stage: Stage) -> None:
    conversation = await stage.talk(phone())
    stage.simulator.meta_api.is_revoked = True
    try:
        lost = await stage.crm.reply(conversation, "Can you hear me?")
        view = await stage.ends(lost.json["message"]["id"], "failed")
        assert view["error"]["code"] == "token_revoked"
        (event,) = await stage.ear(stage.desk).hears("sender.health_changed", _down(MAIN))
        assert [one["code"] for one in event["health"]["problems"]] == ["token_revoked"]
        assert await stage.problems(MAIN) == {"token_revoked"}
        admin = await stage.world.call("GET", f"/v1/admin/numbers/{quote(MAIN.e164)}")
        shown = json.dumps([event, view, await stage.health(MAIN), admin.json])
        assert "simulated-access-token" not in shown
        assert MAIN.phone_number_id not in json.dumps([event, await stage.health(MAIN)])
    finally:
        stage.simulator.meta_api.is_revoked = False
    await stage.received(await stage.writes(phone(), "customers are heard all the while"))
    await stage.went(await stage.crm.reply(conversation, "And now?"))
    back = await stage.ear(stage.desk).hears("sender.health_changed", _back(MAIN))
    assert back[-1]["health"]["problems"] == []
    assert (await stage.health(MAIN))["state"] == "ok"


def _down(number: Number) -> Judge:
    return lambda data: data["number"] == number.e164 and data["health"]["state"] == "down"


def _back(number: Number) -> Judge:
    return lambda data: data["number"] == number.e164 and data["previous"]["state"] == "down"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (131042, "payment_required"),
        (133010, "sender_not_registered"),
        (131031, "account_restricted"),
        (10, "permission_missing"),
    ],
)
async def test_what_keeps_a_number_from_sending_is_told_and_over_with_the_next_message(
    stage: Stage, code: int, problem: str
) -> None:
    conversation = await stage.talk(phone(), number=JUDGED)
    stage.simulator.fail_next(Fault.refused(code))
    lost = await stage.crm.reply(conversation, "Hello")
    assert (await stage.ends(lost.json["message"]["id"], "failed"))["error"]["provider_code"] == str(code)

    async def are(*codes: str) -> bool:
        return await stage.problems(JUDGED) == set(codes)

    await until(lambda: are(problem))
    assert await stage.problems(MAIN) == set()
    await stage.went(await stage.crm.reply(conversation, "Hello again"))
    await until(are)


async def test_e9_in_a_storm_of_429_the_agent_is_next_and_nothing_is_lost(stage: Stage) -> None:
    crowd = [await stage.talk(phone(), number=SLOWED) for _ in range(8)]
    mia = phone()
    conversation = await stage.talk(mia, number=SLOWED)
    elsewhere = await stage.talk(phone())
    stage.simulator.hold()
    stage.simulator.fail_next(Fault.throttled(retry_after=1), 8)
    before, first = len(stage.simulator.sent), len(stage.simulator.attempts)
    bots = [await automates(stage.crm, one, "Your order", "notification") for one in crowd]
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) >= first + 8)
    stage.simulator.release()
    await until(lambda: not stage.simulator.in_flight and not stage.simulator.ledger.faults)
    reply = await stage.crm.reply(conversation, "I am a person")
    free = await stage.went(await stage.crm.reply(elsewhere, "Not throttled here"))
    assert free.sender == MAIN.phone_number_id
    assert [one.sender for one in stage.simulator.sent[before:]] == [MAIN.phone_number_id]
    await stage.went(reply)
    for one in bots:
        await stage.went(one)
    slowed = [one for one in stage.simulator.sent[before:] if one.sender == SLOWED.phone_number_id]
    assert slowed[0].to == "+" + mia
    assert len(slowed) == 9
    assert "throttled" in await stage.problems(SLOWED)


async def test_e9_after_a_pause_agents_go_before_automation_and_campaigns_last(stage: Stage) -> None:
    people = [phone() for _ in range(4)]
    talks = [await stage.talk(one, number=SLOWED) for one in people]
    path = f"/v1/consents/whatsapp/{quote('+' + people[1])}?number={quote(SLOWED.e164)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    slow = f"/v1/admin/numbers/{quote(SLOWED.e164)}/senders/whatsapp"
    assert (await stage.world.call("PATCH", slow, {"rate": 10})).status == 200  # one after the other
    before, tried = len(stage.simulator.sent), len(stage.simulator.attempts)
    stage.simulator.fail_next(Fault.throttled(retry_after=1))
    first = await automates(stage.crm, talks[0], "first", "notification")
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > tried)
    await until(lambda: not stage.simulator.in_flight)
    answers = [
        await automates(stage.crm, talks[1], "campaign", "campaign", campaign="spring"),
        await automates(stage.crm, talks[2], "bot"),
        await stage.desk.reply(talks[3], "person"),
    ]
    for one in (first, *answers):
        await stage.went(one)
    assert (await stage.world.call("PATCH", slow, {"rate": 500})).status == 200
    sent = [one.text for one in stage.simulator.sent[before:] if one.sender == SLOWED.phone_number_id]
    assert (sent[0], sent[-1]) == ("person", "campaign")
    assert sorted(sent[1:3]) == ["bot", "first"]


async def test_e9_the_limit_of_one_pair_holds_nobody_else(stage: Stage) -> None:
    mia, bo = phone(), phone()
    mias, bos = await stage.talk(mia), await stage.talk(bo)
    stage.simulator.fail_next(Fault.throttled(code=131056, status=400, retry_after=1))
    before = len(stage.simulator.attempts)
    waits = await stage.crm.reply(mias, "to Mia")
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > before)
    assert (await stage.went(await stage.crm.reply(bos, "to Bo"))).to == "+" + bo
    assert (await stage.went(waits)).to == "+" + mia
    heard = [one.text for one in stage.simulator.sent if one.to in {"+" + mia, "+" + bo}]
    assert heard == ["to Bo", "to Mia"]
    assert "throttled" not in await stage.problems(MAIN)


async def test_b1_a_shared_key_of_twilios_counts_only_where_it_is_configured(stage: Stage) -> None:
    form = sms("hello", "+" + phone())
    said = {"X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    said["Content-Type"] = FORM
    for key in ("a-shared-key", stage.simulator.twilio_auth_token, ""):
        signature = sign_twilio(PUBLIC_URL + TWILIO, form, key, with_sha256=True)
        answer = await stage.wire.post(TWILIO, urlencode(form).encode(), said | {"X-Twilio-Signature": signature})
        assert (answer.status, answer.body) == (403, b""), key
    assert (await stage.wire.twilio(form)).status == 200
