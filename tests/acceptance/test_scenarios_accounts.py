"""Notices about templates, quality and accounts; played over Meta, judged over HTTP only."""

import json
from urllib.parse import quote

import pytest

from tests.support.scenario_stage import JUDGED, MAIN, SLOWED, Json, Stage, body, change, message, now, phone, text
from tests.support.wire import unique, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_paused_template_is_told_of_and_no_longer_sent(stage: Stage) -> None:
    conversation = await stage.talk(phone(), number=JUDGED)
    templates = f"/v1/numbers/{quote(JUDGED.e164)}/templates?medium=whatsapp"
    assert (await stage.crm.call("GET", templates)).status == 200
    usual = list(stage.simulator.templates)
    stage.simulator.templates = [one | {"status": "PAUSED"} if one["name"] == "spring_sale" else one for one in usual]
    paused = {"message_template_id": 900000000000002, "message_template_name": "spring_sale"}
    paused |= {"message_template_language": "en", "event": "PAUSED", "reason": "LOW_QUALITY"}
    try:
        document = body(change("message_template_status_update", paused, None), number=JUDGED, time=int(now()))
        assert (await stage.wire.meta(document)).status == 200
        (event,) = await stage.ear(stage.desk).hears("template.changed", lambda d: d["change"] == "status")
        assert event["number"] == JUDGED.e164
        assert (event["template"]["name"], event["template"]["language"]) == ("spring_sale", "en")
        assert (event["current"], event["reason"]) == ("paused", "low_quality")
        listed = {one["name"]: one["status"] for one in (await stage.crm.call("GET", templates)).json["items"]}
        assert listed["spring_sale"] == "paused"
        refused = await stage.template(conversation, "spring_sale")
        assert (refused.status, refused.json["code"]) == (422, "template_unavailable")
        assert refused.json["template_status"] == "paused"
    finally:
        stage.simulator.templates = usual


async def test_quality_and_category_of_templates_are_told_once_each(stage: Stage) -> None:
    named = {"message_template_id": 900000000000001, "message_template_name": "order_update"}
    named |= {"message_template_language": "en"}
    scores = named | {"previous_quality_score": "GREEN", "new_quality_score": "YELLOW"}
    category = named | {"previous_category": "UTILITY", "new_category": "MARKETING"}
    changes = [
        change("message_template_quality_update", scores, None),
        change("template_category_update", category, None),
    ]
    for _ in range(2):
        assert (await stage.wire.meta(body(*changes, number=SLOWED, time=int(now(-5))))).status == 200
    await stage.ear().hears("template.changed", lambda d: d["number"] == SLOWED.e164, 2)
    await stage.received(await stage.writes(phone(), "afterwards", SLOWED))
    told = await stage.ear().of("template.changed", lambda d: d["number"] == SLOWED.e164)
    assert [(one["change"], one["previous"], one["current"]) for one in told] == [
        ("quality", "green", "yellow"),
        ("category", "utility", "marketing"),
    ]


async def test_quality_of_a_number_goes_down_and_up_and_old_news_count_for_nothing(stage: Stage) -> None:
    ear = stage.ear(stage.desk)
    await ear.pull()
    about = {"display_phone_number": JUDGED.e164[1:]}

    async def notice(event: str, at: float, limit: str = "TIER_1K") -> None:
        told = change("phone_number_quality_update", about | {"event": event, "current_limit": limit}, None)
        assert (await stage.wire.meta(body(told, number=JUDGED, time=int(now(at))))).status == 200

    def state(data: Json) -> bool:
        return bool(data["number"] == JUDGED.e164 and data["sender"]["medium"] == "whatsapp")

    await notice("FLAGGED", -50)
    (event,) = await ear.hears("sender.health_changed", state)
    assert (event["health"]["state"], event["previous"]["state"]) == ("degraded", "ok")
    assert [one["code"] for one in event["health"]["problems"]] == ["quality_red"]
    await notice("UNFLAGGED", -90)
    assert await stage.problems(JUDGED) == {"quality_red"}
    assert (await stage.health(MAIN))["state"] == "ok"
    await notice("UNFLAGGED", -20)
    events = await ear.hears("sender.health_changed", state, 2)
    assert (events[-1]["health"]["state"], events[-1]["previous"]["state"]) == ("ok", "degraded")
    assert await stage.problems(JUDGED) == set()


async def test_an_account_that_is_disabled_and_reinstated_and_one_that_nobody_knows(stage: Stage) -> None:
    ear = stage.ear(stage.desk)

    async def notice(account: str, state: str, at: float) -> Json:
        mark = unique("ban")
        told = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state, "waba_ban_date": mark}}
        document = body(change("account_update", told, None), time=int(now(at)))
        document["entry"][0]["id"] = account
        mia = phone()
        neighbour = message(mia, text("next to it"))
        document["entry"].append({"id": "1", "changes": [change("messages", {"messages": [neighbour]})]})
        assert (await stage.wire.meta(document)).status == 200
        await stage.received(neighbour["id"])
        return {"mark": mark}

    def about(data: Json) -> bool:
        return bool(data["number"] == JUDGED.e164 and data["health"]["state"] == "down")

    await notice(JUDGED.waba_id, "DISABLE", -60)
    (event,) = await ear.hears("sender.health_changed", about)
    assert [one["code"] for one in event["health"]["problems"]] == ["account_restricted"]
    assert JUDGED.waba_id not in json.dumps(event)
    assert await stage.problems(MAIN) == set()
    assert await stage.problems(JUDGED, "sms") == set()
    await notice(JUDGED.waba_id, "REINSTATE", -30)
    await until(lambda: _no_problems(stage))

    mark = (await notice("299999999999999", "DISABLE", -10))["mark"]
    assert [one["reason"] for one in await stage.quarantined(mark)] == ["unknown_account"]
    assert await stage.problems(JUDGED) == set()


async def test_somebody_at_the_pin_and_a_declined_name_are_told_once_until_they_are_over(stage: Stage) -> None:
    ear = stage.ear(stage.desk)
    await ear.pull()
    begun = len(ear.heard)
    about = {"display_phone_number": JUDGED.e164[1:]}

    async def notice(name: str, at: float, **told: str) -> None:
        document = body(change(name, about | told, None), number=JUDGED, time=int(now(at)))
        assert (await stage.wire.meta(document)).status == 200

    name = {"requested_verified_name": "Shop", "rejection_reason": "NAME_NOT_ALLOWED"}
    for _ in range(2):
        await notice("security", -50, event="PIN_RESET_REQUEST", requester="4711")
        await notice("phone_number_name_update", -50, decision="REJECTED", **name)
    assert await stage.problems(JUDGED) == {"security_alert", "name_declined"}
    await notice("security", -40, event="PIN_CHANGED")
    await notice("phone_number_name_update", -40, decision="APPROVED", **name)
    assert await stage.problems(JUDGED) == set()
    await ear.pull()
    told = [one["data"] for one in ear.heard[begun:] if one["type"] == "sender.health_changed"]
    assert [sorted(p["code"] for p in one["health"]["problems"]) for one in told] == [
        ["security_alert"],
        ["name_declined", "security_alert"],
        ["name_declined"],
        [],
    ]


async def _no_problems(stage: Stage) -> bool:
    return await stage.problems(JUDGED) == set()
