"""What providers answer about a sender, through the real SDKs against the simulator."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from providers import twilio, whatsapp_cloud
from providers.base import (
    MediaRef,
    Medium,
    NotTaken,
    OutcomeUnknown,
    Provider,
    Refused,
    SenderCheck,
    SenderProbe,
    SendError,
)
from providers.simulator import Fault, Number, Simulator, StatusPlan
from providers.simulator.meta_nodes import APP_ID, FIELDS
from providers.twilio import checks
from providers.twilio.checks import SANDBOX
from providers.whatsapp_cloud.subscriptions import RECOMMENDED_FIELDS, REQUIRED_FIELDS

HUB = "https://hub.example"
SERVICE = "MG" + "1" * 32
NUMBER = Number("+15550001111", phone_number_id="1001", messaging_service=SERVICE, waba_id="2001")
ALONE = Number("+15550002222", phone_number_id="1002", waba_id="2002")
META = SenderProbe("whatsapp", "1001", NUMBER.e164, "2001")
Name = Literal["meta", "twilio"]
Connect = Callable[..., Awaitable[Provider]]
Alter = Callable[[Simulator], object]

both = pytest.mark.parametrize("name", ["meta", "twilio"])


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    numbers = [NUMBER, ALONE]
    async with Simulator(numbers=numbers, hub_url="http://127.0.0.1:9", status_plan=StatusPlan.none()) as running:
        running.public_url = HUB
        yield running


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Connect]:
    """Connects a provider by name to the simulator, and closes it afterwards."""
    opened: list[Provider] = []

    async def opener(name: Name, **changes: Any) -> Provider:
        given: dict[str, Any] = {"api_url": simulator.url, "timeout": 5.0, "concurrency": 1, "public_url": HUB}
        if name == "meta":
            given |= {"app_secrets": ["old", *simulator.meta_app_secrets], "verify_token": "v", "app_id": APP_ID}
            provider = await whatsapp_cloud.connect(**(given | {"access_token": simulator.meta_access_token} | changes))
        else:
            given |= {"account_sid": simulator.twilio_account_sid, "auth_tokens": [simulator.twilio_auth_token]}
            provider = await twilio.connect(**(given | changes))
        opened.append(provider)
        return provider

    yield opener
    for provider in opened:
        await provider.close()


def probe(name: Name) -> SenderProbe:
    return META if name == "meta" else SenderProbe("sms", NUMBER.e164, NUMBER.e164)


@contextmanager
def as_before(nodes: object) -> Iterator[None]:
    """Whatever is changed is as it was afterwards."""
    kept = {name: copy(value) for name, value in vars(nodes).items() if not name.startswith("_")}
    try:
        yield
    finally:
        vars(nodes).update(kept)


def assert_found(found: SenderCheck, problems: dict[str, str], case: str = "") -> None:
    """Just these problems, each with these words in its sentence; and what was found was judged."""
    assert found.problems.keys() == problems.keys(), (case, found.problems)
    for code, words in problems.items():
        assert words in found.problems[code], case
        assert found.problems[code][-1] in ".)"
    assert found.problems.keys() <= found.judged


ALL_OF_META = {
    "token_revoked", "permission_missing", "sender_not_registered", "account_restricted", "payment_required",
    "quality_low", "quality_red", "limit_reached", "name_declined", "two_step_pin_off", "fields_missing",
    "webhook_elsewhere",
}  # fmt: skip


async def test_a_number_of_meta_s_that_is_well(connect: Connect) -> None:
    provider = await connect("meta")
    for sender in (META, SenderProbe("whatsapp", "1001", NUMBER.e164)):  # its account is found where it is not named
        found = await provider.check_sender(sender)
        assert_found(found, {})
        assert found.judged == ALL_OF_META
        assert found.facts["account"] == "2001"
        assert found.facts["quality"] == "green"
        assert found.facts["messaging_limit"] == "tier_1k"
        assert found.facts["throughput"] == "standard"
        assert found.facts["webhook_url"] == f"{HUB}/webhooks/meta"
        assert found.facts["webhook_fields"].split(", ") == sorted(FIELDS)


def number(**fields: Any) -> Alter:
    return lambda simulator: simulator.meta_api.nodes.number_fields.update({"1001": fields})


def blocked(kind: str, *errors: dict[str, Any]) -> Alter:
    entity = {"entity_type": kind, "id": "1", "can_send_message": "BLOCKED", "errors": list(errors)}
    return number(health_status={"can_send_message": "BLOCKED", "entities": [entity]})


META_CASES: dict[str, tuple[Alter, dict[str, str]]] = {
    "yellow": (number(quality_rating="YELLOW"), {"quality_low": "medium"}),
    "red": (number(quality_rating="RED", status="FLAGGED"), {"quality_red": "low"}),
    "flagged": (number(quality_rating="UNKNOWN", status="FLAGGED"), {"quality_red": "low"}),
    "restricted": (number(status="RESTRICTED"), {"limit_reached": "messaging limit"}),
    "rate": (number(status="RATE_LIMITED"), {"throttled": "too fast"}),
    "banned": (number(status="BANNED"), {"account_restricted": "banned"}),
    "gone": (number(status="DISCONNECTED"), {"sender_not_registered": "register it"}),
    "elsewhere": (number(platform_type="NOT_APPLICABLE"), {"sender_not_registered": "Cloud API"}),
    "declined": (number(name_status="DECLINED"), {"name_declined": "display name"}),
    "no_pin": (number(is_pin_enabled=False), {"two_step_pin_off": "PIN"}),
    "unpaid": (
        blocked("BUSINESS", {"error_code": 141006, "error_description": "No card.", "possible_solution": "Add one."}),
        {"payment_required": "No card. Add one."},
    ),
    "blocked": (blocked("WABA", {"error_code": 1, "error_description": "Policy."}), {"account_restricted": "Policy."}),
    "blocked_bare": (blocked("PHONE_NUMBER"), {"account_restricted": "phone number"}),
    "no_messages": (
        lambda simulator: simulator.meta_api.nodes.fields.difference_update({"messages", "security"}),
        {"fields_missing": "messages, security"},
    ),
    "no_preferences": (
        lambda simulator: simulator.meta_api.nodes.fields.discard("user_preferences"),
        {"fields_missing": "missing: user_preferences;"},
    ),
    "nothing": (lambda simulator: simulator.meta_api.nodes.fields.clear(), {"fields_missing": "messages, standby"}),
    "optional": (lambda simulator: simulator.meta_api.nodes.fields.difference_update(RECOMMENDED_FIELDS), {}),
    "inactive": (lambda simulator: setattr(simulator.meta_api.nodes, "is_active", False), {"fields_missing": "active"}),
    "unsubscribed": (
        lambda simulator: (simulator.meta_api.nodes.subscribed.clear(), simulator.meta_api.nodes.others.append("Else")),
        {"fields_missing": "POST /2001/subscribed_apps"},
    ),
    "app_elsewhere": (
        lambda simulator: setattr(simulator.meta_api.nodes, "callback_url", "https://u:pw@old.example/hook?key=1"),
        {"webhook_elsewhere": f"to https://old.example/hook, not to {HUB}/webhooks/meta"},
    ),
    "account_elsewhere": (
        lambda simulator: simulator.meta_api.nodes.overrides.update({"2001": "https://waba.example/x"}),
        {"webhook_elsewhere": "https://waba.example/x"},
    ),
    "number_elsewhere": (
        lambda simulator: simulator.meta_api.nodes.overrides.update(
            {"1001": "https://number.example/x", "2001": f"{HUB}/webhooks/meta"}
        ),
        {"webhook_elsewhere": "https://number.example/x"},
    ),
    "number_here": (
        lambda simulator: simulator.meta_api.nodes.overrides.update(
            {"1001": f"{HUB}:443/webhooks/meta?x=1", "2001": "https://waba.example/x"}
        ),
        {},
    ),
}


async def test_what_is_wrong_with_a_number_of_meta_s(simulator: Simulator, connect: Connect) -> None:
    provider = await connect("meta")
    for case, (alter, problems) in META_CASES.items():
        with as_before(simulator.meta_api.nodes):
            alter(simulator)
            found = await provider.check_sender(META)
        assert_found(found, problems, case)
        assert "pw" not in repr(found)
        assert "key=1" not in repr(found)


async def test_only_what_meta_tells_is_judged(simulator: Simulator, connect: Connect) -> None:
    simulator.meta_api.nodes.number_fields["1001"] = {
        "quality_rating": "UNKNOWN", "status": "UNKNOWN", "name_status": None, "is_pin_enabled": None,
        "health_status": {}, "webhook_configuration": {},
    }  # fmt: skip
    unnamed = await (await connect("meta", app_id=None)).check_sender(META)
    assert_found(unnamed, {})
    assert unnamed.judged == {"token_revoked", "permission_missing", "fields_missing"}
    assert unnamed.facts["webhook_fields"] == f"unknown: set PARTYLINE_META_APP_ID={APP_ID}"
    foreign = await (await connect("meta", app_secrets=["wrong"])).check_sender(META)
    assert_found(foreign, {})
    assert foreign.facts["webhook_fields"].startswith("unknown: Meta did not answer")
    told = await (await connect("meta")).check_sender(META)
    assert told.judged == unnamed.judged | {"webhook_elsewhere"}
    unreached = await (await connect("meta", public_url=None)).check_sender(META)
    assert "webhook_elsewhere" not in unreached.judged


async def test_an_api_that_knows_fewer_fields_is_asked_for_fewer(simulator: Simulator, connect: Connect) -> None:
    simulator.fail_next_asked(Fault.refused(100))
    found = await (await connect("meta")).check_sender(META)
    assert found.facts["quality"] == "green"
    assert "two_step_pin_off" not in found.judged
    assert "payment_required" not in found.judged


async def test_a_token_without_the_permissions(
    simulator: Simulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await connect("meta")
    ask = provider._look_up  # type: ignore[attr-defined]

    async def less(request: Any) -> Any:
        answer = await ask(request)
        if isinstance(answer.get("data"), dict):
            answer["data"]["scopes"] = ["whatsapp_business_management"]
        return answer

    monkeypatch.setattr(provider, "_look_up", less)
    found = await provider.check_sender(META)
    assert_found(found, {"permission_missing": "lacks whatsapp_business_messaging"})


def test_required_fields_are_those_that_the_simulator_knows() -> None:
    assert REQUIRED_FIELDS[0] == "messages"
    assert set(REQUIRED_FIELDS) | set(RECOMMENDED_FIELDS) <= set(FIELDS)
    assert not set(REQUIRED_FIELDS) & set(RECOMMENDED_FIELDS)


# Twilio


async def test_senders_of_twilio_s_that_are_well(connect: Connect) -> None:
    provider = await connect("twilio")
    common = {"token_revoked", "sender_not_registered", "webhook_elsewhere", "account_restricted"}
    for sender in (NUMBER.e164, ALONE.e164, SERVICE):
        found = await provider.check_sender(SenderProbe("sms", sender, NUMBER.e164))
        assert_found(found, {})
        assert found.judged == common
        assert found.facts["webhook_url"] == f"{HUB}/webhooks/twilio"
        assert found.facts.get("messaging_service") == (SERVICE if sender == NUMBER.e164 else None)
    found = await provider.check_sender(SenderProbe("whatsapp", NUMBER.e164, NUMBER.e164))
    assert_found(found, {})
    assert found.judged == common | {"quality_low", "quality_red", "name_declined"}
    assert (found.facts["quality"], found.facts["messaging_limit"]) == ("high", "1k customers/24hr")
    found = await provider.check_sender(SenderProbe("whatsapp", SANDBOX, SANDBOX))
    assert_found(found, {})
    assert found.judged == {"token_revoked"}


def at_twilio(part: str, sender: str, **fields: Any) -> Alter:
    return lambda simulator: getattr(simulator.twilio_api.nodes, f"{part}_fields").update({sender: fields})


def both_at_twilio(*alters: Alter) -> Alter:
    return lambda simulator: [alter(simulator) for alter in alters]


OTHER = "https://other.example/sms"
TWILIO_CASES: dict[str, tuple[Medium, str, Alter, dict[str, str]]] = {
    "unknown": ("sms", "+15559", lambda _: None, {"sender_not_registered": "no number +15559"}),
    "elsewhere": ("sms", ALONE.e164, at_twilio("number", ALONE.e164, sms_url=OTHER), {"webhook_elsewhere": OTHER}),
    "by_get": ("sms", ALONE.e164, at_twilio("number", ALONE.e164, sms_method="GET"), {"webhook_elsewhere": "by GET"}),
    "nowhere": ("sms", ALONE.e164, at_twilio("number", ALONE.e164, sms_url=""), {"webhook_elsewhere": "drops"}),
    "no_sms": (
        "sms",
        ALONE.e164,
        at_twilio("number", ALONE.e164, capabilities={"sms": False, "voice": True}),
        {"sender_not_registered": "cannot send SMS"},
    ),
    "status_path": ("sms", ALONE.e164, at_twilio("number", ALONE.e164, sms_url=f"{HUB}/webhooks/twilio/status"), {}),
    "service_first": ("sms", NUMBER.e164, at_twilio("number", NUMBER.e164, sms_url=OTHER), {}),
    "service_elsewhere": (
        "sms",
        NUMBER.e164,
        at_twilio("service", SERVICE, inbound_request_url=OTHER),
        {"webhook_elsewhere": f"the messaging service {SERVICE}"},
    ),
    "service_drops": (
        "sms",
        SERVICE,
        at_twilio("service", SERVICE, inbound_request_url=None),
        {"webhook_elsewhere": "drops"},
    ),
    "number_decides": (
        "sms",
        SERVICE,
        both_at_twilio(
            at_twilio("service", SERVICE, inbound_request_url=None, use_inbound_webhook_on_number=True),
            at_twilio("number", NUMBER.e164, sms_url=OTHER),
        ),
        {"webhook_elsewhere": OTHER},
    ),
    "number_decides_well": (
        "sms",
        NUMBER.e164,
        at_twilio("service", SERVICE, inbound_request_url=OTHER, use_inbound_webhook_on_number=True),
        {},
    ),
    "no_service": ("sms", "MG" + "9" * 32, lambda _: None, {"sender_not_registered": "no such messaging service"}),
    "whatsapp_unknown": ("whatsapp", "+15559", lambda _: None, {"sender_not_registered": "no WhatsApp sender"}),
    "whatsapp_elsewhere": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, webhook={"callback_url": OTHER, "callback_method": "POST"}),
        {"webhook_elsewhere": OTHER},
    ),
    "whatsapp_offline": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, status="OFFLINE", offline_reasons=[{"code": "63100", "message": "Moved"}]),
        {"sender_not_registered": "Moved"},
    ),
    "whatsapp_restricted": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, status="OFFLINE", offline_reasons=[{"code": "63112", "message": "Disabled"}]),
        {"account_restricted": "Disabled"},
    ),
    "whatsapp_new": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, status="PENDING_VERIFICATION"),
        {"sender_not_registered": "finish its registration"},
    ),
    "whatsapp_medium": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, properties={"quality_rating": "MEDIUM"}),
        {"quality_low": "medium"},
    ),
    "whatsapp_low": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, properties={"quality_rating": "LOW"}),
        {"quality_red": "low"},
    ),
    "whatsapp_name": (
        "whatsapp",
        NUMBER.e164,
        at_twilio("sender", NUMBER.e164, pending_display_name_status="DECLINED"),
        {"name_declined": "another one"},
    ),
    "suspended": (
        "sms",
        NUMBER.e164,
        lambda simulator: setattr(simulator.twilio_api.nodes, "account_status", "suspended"),
        {"account_restricted": "restricted the account"},
    ),
}


async def test_what_is_wrong_with_a_sender_of_twilio_s(simulator: Simulator, connect: Connect) -> None:
    provider = await connect("twilio")
    for case, (medium, sender, alter, problems) in TWILIO_CASES.items():
        with as_before(simulator.twilio_api.nodes):
            alter(simulator)
            found = await provider.check_sender(SenderProbe(medium, sender, sender))
        assert_found(found, problems, case)


async def test_a_sender_beyond_those_listed_is_not_called_missing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_MAX_SENDERS", 1)
    found = await (await connect("twilio")).check_sender(SenderProbe("whatsapp", "+15559", "+15559"))
    assert_found(found, {})
    assert found.facts["sender"].startswith("unknown")


async def test_an_account_that_may_not_see_its_whatsapp_senders(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await connect("twilio")
    ask, calls = provider._look_up, iter([None, Refused("permission_denied")])  # type: ignore[attr-defined]

    async def refused(call: Any) -> Any:
        if error := next(calls):
            raise error
        return await ask(call)

    monkeypatch.setattr(provider, "_look_up", refused)
    found = await provider.check_sender(SenderProbe("whatsapp", NUMBER.e164, NUMBER.e164))
    assert_found(found, {})
    assert found.judged == {"token_revoked"}
    assert found.facts["sender"].startswith("unknown")


# Both


@both
async def test_refusals_that_tell_something(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    codes = {"meta": ((190, "token_revoked"), (10, "permission_missing"), (368, "account_restricted"))}
    for code, problem in codes.get(name, ((20003, "token_revoked"), (20403, "permission_missing"))):
        simulator.fail_next_asked(Fault.refused(code, status=401))
        found = await provider.check_sender(probe(name))
        assert_found(found, {problem: f"It says {code}."})
        assert found.judged == {problem}


@both
async def test_who_cannot_be_asked_just_now(simulator: Simulator, connect: Connect, name: Name) -> None:
    provider = await connect(name)
    for fault, error in ((Fault.bare(502), OutcomeUnknown), (Fault.throttled(), NotTaken), (Fault.html(), SendError)):
        simulator.fail_next_asked(fault)
        with pytest.raises(error):
            await provider.check_sender(probe(name))
    none: dict[str, Any] = {"access_token": None} if name == "meta" else {"account_sid": None, "auth_tokens": []}
    with pytest.raises(Refused, match="not_configured"):
        await (await connect(name, **none)).check_sender(probe(name))


ODD: list[Any] = [
    None, 1, "x", [], {}, {"data": 1}, {"data": [1, None, {}]}, {"error": 1}, {"error": {"code": "x"}}, {"meta": 1},
    {"quality_rating": [], "status": {}, "health_status": {"entities": [1, {"errors": 5}]}, "throughput": 7},
    {"health_status": {"entities": [{"can_send_message": "BLOCKED", "errors": [None, 1]}]}, "webhook_configuration": 1},
    {"status": 5, "incoming_phone_numbers": [{}], "services": [{}], "senders": [{}], "messages": [{}], "meta": {}},
    {"messages": [{"date_sent": "x", "date_created": 5, "direction": "inbound"}], "page": 0, "next_page_uri": None},
]  # fmt: skip


@both
async def test_odd_answers_raise_nothing_but_send_errors(connect: Connect, name: Name) -> None:
    answer: Any = None

    async def odd(_: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", odd)
    async with TestServer(app) as server:
        provider = await connect(name, api_url=str(server.make_url("/")).rstrip("/"))
        now = datetime.now(UTC)
        for body in ODD:
            answer = body
            for sender in (probe(name), SenderProbe("whatsapp", NUMBER.e164, ""), SenderProbe("sms", SERVICE, "")):
                with suppress(SendError):
                    assert isinstance(await provider.check_sender(sender), SenderCheck)
            with suppress(SendError):
                assert await provider.list_received(now, now) == []
            with pytest.raises(SendError):
                async with provider.open_media(MediaRef("1", None)):
                    pass
