"""Everything that Meta can do below the hub, through the real SDK against the simulator (rules E8, E10)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from providers import whatsapp_cloud
from providers.base import (
    NotTaken,
    OutboundMedia,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    ReadMark,
    Refused,
    SendError,
    Template,
    Upload,
)
from providers.simulator import Fault, Number, Simulator, StatusPlan
from providers.simulator import ReadMark as SimulatedReadMark
from providers.whatsapp_cloud.outbound import body_of

NUMBER = Number("+15550001111", phone_number_id="1001", waba_id="2001")
ELSEWHERE = Number("+15550002222", phone_number_id="1002", waba_id="2002")
Connect = Callable[..., Awaitable[Provider]]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    numbers, clock = [ELSEWHERE, NUMBER], lambda: 1_700_000_000.0
    async with Simulator(numbers=numbers, status_plan=StatusPlan.none(), clock=clock) as running:
        yield running


@pytest.fixture
async def connect(simulator: Simulator) -> AsyncIterator[Connect]:
    """Connects Meta to the simulator, and closes it afterwards."""
    opened: list[Provider] = []

    async def opener(**changes: Any) -> Provider:
        given: dict[str, Any] = {"api_url": simulator.url, "access_token": simulator.meta_access_token}
        given |= {"app_secrets": ["s"], "verify_token": "v", "timeout": 5.0, "concurrency": 20}
        opened.append(await whatsapp_cloud.connect(**(given | changes)))
        return opened[-1]

    yield opener
    for provider in opened:
        await provider.close()


@pytest.fixture
async def meta(connect: Connect) -> Provider:
    return await connect()


@pytest.fixture
def photo(tmp_path: Path) -> Upload:
    path = tmp_path / "a1b2"
    path.write_bytes(b"\x89PNG" + b"\0" * 2_000_000)
    return Upload("1001", path, "image/png", "größe.png")


def message(kind: str, content: dict[str, Any], *media: OutboundMedia) -> OutboundMessage:
    return OutboundMessage("msg_1", "whatsapp", "1001", "+15552223333", None, kind, content, media)


def choice(name: str) -> dict[str, Any]:
    return {"id": name.lower(), "title": name}


def interactive(kind: str, **parts: Any) -> dict[str, Any]:
    return {"interactive": {"type": kind, "text": "Choose"} | parts}


LINK: Final = OutboundMedia(url="https://files.example/a", mime_type="image/png", filename="a.png")
TEXT_HEADER: Final = {"type": "text", "text": "Head"}
ADA: Final = {"name": {"formatted_name": "Ada L", "first_name": "Ada"}, "phones": [{"phone": "+15550100001"}]}
PARAMETERS: Final = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]


def test_what_meta_can_do(meta: Provider) -> None:
    files = {"image", "video", "audio", "document", "sticker"}
    others = {"text", "template", "interactive", "location", "contacts", "reaction"}
    assert meta.supports == {"whatsapp": files | others | {"reply_to", "read", "typing", "upload", "templates"}}


@pytest.mark.parametrize(
    ("sent", "body", "shown"),
    [
        pytest.param(message("text", {"text": "hi"}), {"body": "hi"}, "hi", id="text"),
        pytest.param(
            message("text", {"text": "https://a.example", "preview_url": True}),
            {"body": "https://a.example", "preview_url": True},
            "https://a.example",
            id="text with preview",
        ),
        *(
            pytest.param(
                message(kind, {"text": "look"}, LINK),
                {"link": LINK.url, "caption": "look"} | ({"filename": "a.png"} if kind == "document" else {}),
                "look",
                id=f"{kind} with caption",
            )
            for kind in ("image", "video", "document")
        ),
        *(
            pytest.param(message(kind, {}, LINK), {"link": LINK.url}, None, id=kind)
            for kind in ("image", "audio", "sticker")
        ),
        pytest.param(
            message("template", {"template": {"name": "order_update", "language": "en", "components": PARAMETERS}}),
            {"name": "order_update", "language": {"code": "en"}, "components": PARAMETERS},
            "Your order 4711 is on its way.",
            id="template with a variable",
        ),
        pytest.param(
            message("template", {"template": {"name": "spring_sale", "language": "en"}}),
            {"name": "spring_sale", "language": {"code": "en"}},
            "Our spring sale has begun.",
            id="template",
        ),
        pytest.param(
            message("interactive", interactive("buttons", buttons=[choice("Yes"), choice("No")], header="Head")),
            {
                "type": "button",
                "body": {"text": "Choose"},
                "header": TEXT_HEADER,
                "action": {
                    "buttons": [
                        {"type": "reply", "reply": {"id": "yes", "title": "Yes"}},
                        {"type": "reply", "reply": {"id": "no", "title": "No"}},
                    ]
                },
            },
            "Choose",
            id="buttons",
        ),
        pytest.param(
            message(
                "interactive",
                interactive(
                    "list",
                    button="Open",
                    footer="Foot",
                    sections=[
                        {"title": "Shoes", "rows": [choice("Blue") | {"description": "Size 42"}]},
                        {"title": "Hats", "rows": [choice("Red"), choice("Black")]},
                    ],
                ),
            ),
            {
                "type": "list",
                "body": {"text": "Choose"},
                "footer": {"text": "Foot"},
                "action": {
                    "button": "Open",
                    "sections": [
                        {"title": "Shoes", "rows": [{"id": "blue", "title": "Blue", "description": "Size 42"}]},
                        {"title": "Hats", "rows": [choice("Red"), choice("Black")]},
                    ],
                },
            },
            "Choose",
            id="list",
        ),
        pytest.param(
            message("interactive", interactive("list", button="Open", sections=[{"rows": [choice("Blue")]}])),
            {
                "type": "list",
                "body": {"text": "Choose"},
                "action": {"button": "Open", "sections": [{"rows": [choice("Blue")]}]},
            },
            "Choose",
            id="list without titles",
        ),
        pytest.param(
            message("interactive", interactive("cta_url", title="Shop", url="https://shop.example", header="Head")),
            {
                "type": "cta_url",
                "body": {"text": "Choose"},
                "header": TEXT_HEADER,
                "action": {
                    "name": "cta_url",
                    "parameters": {"display_text": "Shop", "url": "https://shop.example"},
                },
            },
            "Choose",
            id="call to action",
        ),
        pytest.param(
            message("location", {"location": {"latitude": 52.5, "longitude": 13, "name": "Shop", "address": None}}),
            {"latitude": 52.5, "longitude": 13, "name": "Shop"},
            None,
            id="location",
        ),
        pytest.param(message("contacts", {"contacts": [ADA]}), [ADA], None, id="contacts"),
        pytest.param(
            message("reaction", {"reaction": {"provider_id": "wamid.1", "emoji": "👍"}}),
            {"message_id": "wamid.1", "emoji": "👍"},
            "👍",
            id="reaction",
        ),
        pytest.param(
            message("reaction", {"reaction": {"provider_id": "wamid.1", "emoji": None}}),
            {"message_id": "wamid.1", "emoji": ""},
            "",
            id="reaction taken back",
        ),
    ],
)
async def test_e10_each_kind_reaches_meta_in_its_words(
    simulator: Simulator, meta: Provider, sent: OutboundMessage, body: Any, shown: str | None
) -> None:
    answer = await meta.send(sent)
    (recorded,) = simulator.sent
    assert recorded.body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "15552223333",
        "type": sent.type,
        "biz_opaque_callback_data": "msg_1",
        sent.type: body,
    }
    assert (recorded.type, recorded.text, recorded.hub_id) == (sent.type, shown, "msg_1")
    assert (answer.provider_id, answer.status) == (recorded.provider_id, "sending")


@pytest.mark.parametrize("kind", ["image", "interactive", "template", "contacts"])
async def test_e10_other_kinds_than_texts_quote_too(simulator: Simulator, meta: Provider, kind: str) -> None:
    contents: dict[str, dict[str, Any]] = {
        "image": {},
        "interactive": interactive("buttons", buttons=[choice("Yes")]),
        "template": {"template": {"name": "spring_sale", "language": "en"}},
        "contacts": {"contacts": [ADA]},
    }
    quoted = contents[kind] | {"reply_to": {"provider_id": "wamid.quoted"}}
    await meta.send(message(kind, quoted, *([LINK] if kind == "image" else [])))
    assert simulator.sent[0].body["context"] == {"message_id": "wamid.quoted"}


async def test_e10_a_reaction_names_its_message_once(simulator: Simulator, meta: Provider) -> None:
    content = {"reaction": {"provider_id": "wamid.1", "emoji": "👍"}, "reply_to": {"provider_id": "wamid.1"}}
    await meta.send(message("reaction", content))
    assert "context" not in simulator.sent[0].body


@pytest.mark.parametrize(
    ("kind", "content", "media"),
    [
        ("image", {}, []),
        ("image", {}, [LINK, LINK]),
        ("image", {}, [OutboundMedia()]),
        ("image", {"text": 5}, [LINK]),
        ("audio", {"text": "la la"}, [LINK]),
        ("sticker", {"text": "la la"}, [LINK]),
        ("template", {}, []),
        ("template", {"template": {"name": "x"}}, []),
        ("template", {"template": {"language": "en"}}, []),
        ("template", {"template": {"name": "x", "language": "en", "components": {"a": 1}}}, []),
        ("interactive", {}, []),
        ("interactive", {"interactive": {"type": "poll", "text": "x"}}, []),
        ("interactive", {"interactive": {"type": ["list"], "text": "x"}}, []),
        ("interactive", interactive("buttons"), []),
        ("interactive", interactive("buttons", buttons=[]), []),
        ("interactive", interactive("buttons", buttons=["Yes"]), []),
        ("interactive", interactive("buttons", buttons=[{"id": "y"}]), []),
        ("interactive", interactive("buttons", text="", buttons=[choice("Yes")]), []),
        ("interactive", interactive("list", sections=[{"rows": [choice("Yes")]}]), []),
        ("interactive", interactive("list", button="Open", sections=[{"title": "x"}]), []),
        ("interactive", interactive("cta_url", title="Shop"), []),
        ("location", {"location": {"latitude": 1}}, []),
        ("location", {"location": {"latitude": "1", "longitude": True}}, []),
        ("contacts", {"contacts": "Ada"}, []),
        ("contacts", {"contacts": []}, []),
        ("reaction", {"reaction": {"emoji": "👍"}}, []),
        ("reaction", {"reaction": {"provider_id": "wamid.1", "emoji": 1}}, []),
    ],
)
def test_e10_nonsense_is_refused(kind: str, content: dict[str, Any], media: list[OutboundMedia]) -> None:
    with pytest.raises(Refused) as caught:
        body_of(message(kind, content, *media))
    assert caught.value.code == "invalid_content"
    assert caught.value.detail


async def test_e10_nonsense_is_refused_without_a_request(simulator: Simulator, meta: Provider) -> None:
    with pytest.raises(Refused, match="invalid_content"):
        await meta.send(message("image", {}))
    assert simulator.attempts == []


@pytest.mark.parametrize(
    ("sent", "code", "provider_code"),
    [
        pytest.param(
            message("interactive", interactive("buttons", buttons=[choice(name) for name in "ABCD"])),
            "invalid_content",
            "131009",
            id="four buttons",
        ),
        pytest.param(
            message("template", {"template": {"name": "lottery", "language": "en"}}),
            "template_missing",
            "132001",
            id="template not approved",
        ),
        pytest.param(
            message("template", {"template": {"name": "spring_sale", "language": "de"}}),
            "template_missing",
            "132001",
            id="template in no such language",
        ),
        pytest.param(
            message("template", {"template": {"name": "order_update", "language": "en"}}),
            "template_invalid",
            "132000",
            id="template without its variable",
        ),
        pytest.param(
            message("image", {}, OutboundMedia(provider_id="4711")), "invalid_content", "100", id="unknown file"
        ),
    ],
)
async def test_e8_what_meta_refuses_is_final(
    simulator: Simulator, meta: Provider, sent: OutboundMessage, code: str, provider_code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await meta.send(sent)
    assert (caught.value.code, caught.value.provider_code) == (code, provider_code)
    assert simulator.sent == []


async def test_e10_a_file_is_uploaded_once_and_sent_by_its_id(
    simulator: Simulator, meta: Provider, photo: Upload
) -> None:
    media_id = await meta.upload(photo)
    kept = simulator.uploads[media_id]
    assert (kept.sender, kept.mime_type, kept.filename) == ("1001", "image/png", "größe.png")
    assert kept.content == photo.path.read_bytes()
    file = OutboundMedia(url="https://files.example/a", provider_id=media_id)
    for kind in ("image", "document"):
        await meta.send(message(kind, {}, file))
    assert [send.body[send.type] for send in simulator.sent] == [{"id": media_id}] * 2


async def test_a_file_that_is_gone_is_refused(simulator: Simulator, meta: Provider, photo: Upload) -> None:
    with pytest.raises(Refused) as caught:
        await meta.upload(replace(photo, path=photo.path.with_name("gone")))
    assert caught.value.code == "media_unavailable"
    assert simulator.uploads == {}


@pytest.mark.parametrize("is_typing", [False, True])
async def test_e10_read_marks_and_typing(simulator: Simulator, meta: Provider, is_typing: bool) -> None:
    await meta.mark_read(ReadMark("whatsapp", "1001", "wamid.1", is_typing))
    assert simulator.read_marks == [SimulatedReadMark("meta", "1001", "wamid.1", is_typing, 1_700_000_000.0)]
    assert simulator.attempts == []


async def test_e10_there_are_no_read_marks_over_sms(simulator: Simulator, meta: Provider) -> None:
    with pytest.raises(Refused, match="not_supported"):
        await meta.mark_read(ReadMark("sms", "1001", "wamid.1"))
    assert simulator.read_marks == []


async def test_e8_meta_cannot_be_asked_what_it_sent(meta: Provider) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Refused, match="not_supported"):
        await meta.find_sent(message("text", {"text": "hi"}), now, now)


# templates


@pytest.mark.parametrize("account", ["2001", None], ids=["named", "found"])
async def test_e10_templates_of_the_number_s_account(meta: Provider, account: str | None) -> None:
    found = list(await meta.list_templates("1001", account))
    assert found[0] == Template(
        external_id="900000000000001",
        name="order_update",
        language="en",
        category="utility",
        status="approved",
        content={
            "components": [
                {
                    "type": "BODY",
                    "text": "Your order {{1}} is on its way.",
                    "example": {"body_text": [["4711"]]},
                }
            ]
        },
    )
    assert [(template.name, template.category, template.status) for template in found[1:]] == [
        ("spring_sale", "marketing", "approved"),
        ("lottery", "marketing", "rejected"),
    ]


def template(index: int, **changes: Any) -> dict[str, Any]:
    plain = {"id": str(index), "name": f"t{index}", "language": "en", "category": "UTILITY", "status": "APPROVED"}
    return plain | {"components": []} | changes


async def test_e10_templates_are_read_over_all_pages(simulator: Simulator, meta: Provider) -> None:
    # The list shifted between two pages, so that one came twice; and one is odd.
    simulator.templates = [*map(template, range(99)), template(98), template(98), template(99), template(7, id=None)]
    simulator.templates += [template(100, language="pt_BR", category=None, status="PENDING", components=None)]
    found = await meta.list_templates("1001", "2001")
    assert [one.external_id for one in found] == [str(index) for index in range(101)]
    assert found[-1] == Template("100", "t100", "pt_BR", None, "pending", {"components": []})


async def test_no_more_than_2000_templates_are_read(simulator: Simulator, meta: Provider) -> None:
    simulator.templates = list(map(template, range(2100)))
    assert len(await meta.list_templates("1001", "2001")) == 2000


async def test_an_account_that_meta_does_not_know(meta: Provider) -> None:
    with pytest.raises(Refused) as caught:
        await meta.list_templates("1001", "2009")
    assert (caught.value.code, caught.value.provider_code) == ("no_account", "100")
    assert "2009" in caught.value.detail


async def test_a_number_that_meta_does_not_know(meta: Provider, photo: Upload) -> None:
    sent = replace(message("text", {"text": "hi"}), sender="1003")
    upload, read = replace(photo, sender="1003"), ReadMark("whatsapp", "1003", "wamid.1")
    for call in (meta.send(sent), meta.upload(upload), meta.mark_read(read)):
        with pytest.raises(Refused, match="sender_not_registered"):
            await call


async def test_an_account_of_another_number_is_not_taken(simulator: Simulator, meta: Provider) -> None:
    with pytest.raises(Refused) as caught:
        await meta.list_templates("1003", None)
    assert caught.value.code == "no_account"
    assert "1003" in caught.value.detail


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ([Fault.refused(100)], "no_account"),  # the token may not inspect itself
        ([Fault.refused(190, status=401)], "token_revoked"),
        ([Fault.bare(502)], "bare_error"),
    ],
)
async def test_an_account_that_cannot_be_found_out(
    simulator: Simulator, meta: Provider, faults: list[Fault], code: str
) -> None:
    for fault in faults:
        simulator.fail_next_asked(fault)
    with pytest.raises(SendError) as caught:
        await meta.list_templates("1001", None)
    assert caught.value.code == code


async def test_an_account_that_keeps_its_numbers_to_itself_is_passed_over(
    simulator: Simulator, meta: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    listing = simulator.meta_api.extras._listing

    def guarded(request: Any, items: Any) -> Any:
        asked.append(request.match_info["node"])
        if request.match_info["node"] == "2002":
            request.match_info["node"] = "0"  # an account this token does not see
        return listing(request, items)

    monkeypatch.setattr(simulator.meta_api.extras, "_listing", guarded)
    assert len(await meta.list_templates("1001", None)) == 3
    assert asked == ["2002", "2001", "2001"]


# errors of all that sends nothing


Call = Callable[[Provider, Upload], Awaitable[Any]]
CALLS: Final[dict[str, Call]] = {
    "upload": lambda meta, photo: meta.upload(photo),
    "read": lambda meta, _: meta.mark_read(ReadMark("whatsapp", "1001", "wamid.1")),
    "typing": lambda meta, _: meta.mark_read(ReadMark("whatsapp", "1001", "wamid.1", is_typing=True)),
    "templates": lambda meta, _: meta.list_templates("1001", "2001"),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
async def test_e8_failures_of_other_calls(simulator: Simulator, meta: Provider, photo: Upload, call: Call) -> None:
    meanings = [
        (Fault.refused(190, status=401), Refused, "token_revoked"),
        (Fault.refused(200, status=403), Refused, "permission_denied"),
        (Fault.refused(131053), Refused, "media_unavailable"),
        (Fault.unavailable(), Refused, "provider_unavailable"),
        (Fault.throttled(code=80007, status=400), NotTaken, "throttled"),
        (Fault.bare(502), OutcomeUnknown, "bare_error"),
        (Fault.html(), OutcomeUnknown, "bad_answer"),
        (Fault.no_message(), OutcomeUnknown, "bad_answer"),
        (Fault.dropped(), OutcomeUnknown, "connection_lost"),
    ]
    for fault, error, code in meanings:
        simulator.fail_next_asked(fault)
        with pytest.raises(SendError) as caught:
            await call(meta, photo)
        assert (type(caught.value), caught.value.code) == (error, code)
        assert not simulator.ledger.faults_when_asked
    await call(meta, photo)  # every slot is free again


@each_call
async def test_e8_time_outs_of_other_calls(simulator: Simulator, connect: Connect, photo: Upload, call: Call) -> None:
    meta = await connect(timeout=0.2)
    simulator.fail_next_asked(Fault.silent())
    with pytest.raises(OutcomeUnknown, match="timeout"):
        await call(meta, photo)


@each_call
async def test_other_calls_without_a_server_or_a_token(
    connect: Connect, photo: Upload, call: Call, unused_tcp_port: int
) -> None:
    with pytest.raises(NotTaken, match="unreachable"):
        await call(await connect(api_url=f"http://127.0.0.1:{unused_tcp_port}"), photo)
    with pytest.raises(Refused, match="not_configured"):
        await call(await connect(access_token=None), photo)


@each_call
async def test_e8_an_answer_that_says_nothing_is_unknown(
    meta: Provider, monkeypatch: pytest.MonkeyPatch, photo: Upload, call: Call
) -> None:
    answers: list[Any] = [{}, [], {"data": {}}, {"success": False}, {"id": None}, "x", None]

    async def respond(*_: Any, **__: Any) -> Any:
        return answers[0]

    monkeypatch.setattr(meta._client.api, "_request", respond)
    while answers:
        with pytest.raises(OutcomeUnknown, match="bad_answer"):
            await call(meta, photo)
        del answers[0]


async def test_all_calls_share_the_slots(simulator: Simulator, connect: Connect, photo: Upload) -> None:
    bounded, other = await connect(concurrency=2), await connect()
    simulator.hold()
    async with asyncio.TaskGroup() as tasks:
        for call in CALLS.values():
            tasks.create_task(_awaited(call(bounded, photo)))
        tasks.create_task(bounded.send(message("text", {"text": "hi"})))
        await simulator.wait_for(lambda: simulator.in_flight == 2)
        tasks.create_task(other.send(message("text", {"text": "hi"})))  # gets through: a third had the time
        await simulator.wait_for(lambda: simulator.in_flight > 2)
        assert simulator.in_flight == 3
        simulator.release()
    assert simulator.peak == 3
    assert len(simulator.sent) == 2
    assert len(simulator.read_marks) == 2


async def _awaited(call: Awaitable[Any]) -> None:
    await call


async def test_neither_content_nor_token_is_logged(
    simulator: Simulator, meta: Provider, photo: Upload, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await meta.list_templates("1001", None)
    await meta.upload(photo)
    simulator.fail_next_asked(Fault.refused(100))
    with pytest.raises(Refused):
        await meta.list_templates("1001", None)
    await meta.send(message("image", {"text": "a private word"}, LINK))
    for secret in ("private word", simulator.meta_access_token, "files.example"):
        assert secret not in caplog.text
