"""Message kinds: what bodies are taken, every fault of them at once, and what each medium can carry (rule E10)."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hub.domain import kinds
from hub.domain.errors import Invalid
from hub.http.message_schemas import MessageIn
from providers.twilio.outbound import SUPPORTS as TWILIO
from providers.whatsapp_cloud.provider import SUPPORTS as META

ROW = {"id": "r1", "title": "Monday"}
BUTTONS = {"type": "buttons", "text": "When?", "buttons": [{"id": "b1", "title": "Now"}]}
LIST = {"type": "list", "text": "When?", "button": "Days", "sections": [{"rows": [ROW]}]}
CTA = {"type": "cta_url", "text": "See", "title": "Open", "url": "https://shop.example.com/a?b=c"}
FILE = {"url": "https://files.example.com/a.jpg"}
META_TEMPLATE = {"name": "order_update", "language": "en_US"}
TWILIO_TEMPLATE = {"content_sid": "HX" + "a1" * 16}
CARD = {
    "name": {"formatted_name": "Ana Lima", "first_name": "Ana"},
    "phones": [{"phone": "+15550009999", "type": "WORK", "wa_id": "15550009999"}],
    "emails": [{"email": "ana@example.com", "type": "WORK"}],
    "urls": [{"url": "https://example.com", "type": "WORK"}],
    "addresses": [{"street": "Rua 1", "city": "Lisboa", "country": "Portugal", "country_code": "PT", "zip": "1000"}],
    "org": {"company": "Shop", "department": "Sales", "title": "Head"},
    "birthday": "1990-01-31",
}


def section(title: str | None, *ids: str) -> dict[str, Any]:
    rows = [{"id": name, "title": "t"} for name in ids]
    return {"rows": rows} if title is None else {"title": title, "rows": rows}


GOOD: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("text", {"text": "x" * 65_536}, None),
    ("text", {"text": "see https://x.org", "preview_url": False, "reply_to": "wamid.1"}, None),
    ("image", {"media": FILE, "text": "this", "reply_to": "msg_1"}, {"media": [FILE], "text": "this"}),
    ("video", {"media": [FILE] * 10}, None),
    ("audio", {"media": {"id": "med_1"}}, {"media": [{"id": "med_1"}]}),
    ("document", {"media": [FILE | {"filename": "Übersicht 1.pdf", "mime_type": "application/pdf"}]}, None),
    ("sticker", {"media": [FILE | {"mime_type": "image/webp"}]}, None),
    ("media", {"media": [FILE | {"mime_type": "audio/ogg; codecs=opus"}], "text": "any"}, None),
    ("template", {"template": META_TEMPLATE}, None),
    (
        "template",
        {"template": META_TEMPLATE | {"components": [{"type": "body", "parameters": [{"type": "text", "text": "7"}]}]}},
        None,
    ),
    ("template", {"template": TWILIO_TEMPLATE | {"variables": {"1": "seven", "text": "x" * 1600}}}, None),
    ("interactive", {"interactive": BUTTONS | {"header": "h" * 60, "footer": "f" * 60, "text": "t" * 1024}}, None),
    ("interactive", {"interactive": BUTTONS | {"buttons": [{"id": "i" * 256, "title": "t" * 20}]}}, None),
    ("interactive", {"interactive": LIST | {"text": "t" * 4096}}, None),
    (
        "interactive",
        {"interactive": LIST | {"sections": [section("s" * 24, "1", "2"), section("b", *map(str, range(3, 11)))]}},
        None,
    ),
    ("interactive", {"interactive": CTA}, None),
    ("location", {"location": {"latitude": -90, "longitude": 180.0, "name": "Office", "address": "Street 1"}}, None),
    ("contacts", {"contacts": [CARD, {"name": {"formatted_name": "B", "last_name": "B"}}]}, None),
    *(
        ("reaction", {"reaction": {"message_id": "msg_1", "emoji": said}}, None)
        for said in (
            "👍🏽",
            "❤️",
            "1️⃣",
            "ℹ️",
            "🇩🇪",
            "👩‍👩‍👧‍👦",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        )
    ),
    ("reaction", {"reaction": {"message_id": "msg_1", "emoji": None}}, None),
]


@pytest.mark.parametrize(("kind", "fields", "content"), GOOD, ids=[f"{n}-{g[0]}" for n, g in enumerate(GOOD)])
def test_good_bodies(kind: str, fields: dict[str, Any], content: dict[str, Any] | None) -> None:
    made = MessageIn.model_validate({"origin": "chatbot", "type": kind, **fields})
    quoted = {"reply_to": fields["reply_to"]} if "reply_to" in fields else {}
    assert made.content() == (kind, fields if content is None else content | quoted)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"inner": value}
    return value


BAD: list[tuple[str, dict[str, Any], set[str]]] = [
    ("text", {}, {"/text"}),
    ("text", {"text": ""}, {"/text"}),
    ("text", {"text": "a\x00"}, {"/text"}),
    ("text", {"text": "\ud800"}, {"/text"}),
    ("text", {"text": "a", "preview_url": "yes"}, {"/preview_url"}),
    ("text", {"text": "a", "hologram": 1}, {"/hologram"}),
    ("hologram", {"text": "a"}, {"/type"}),
    ("hologram", {"text": 7, "media": 7, "location": {}}, {"/type", "/text", "/media", "/location/latitude",
                                                          "/location/longitude"}),
    ("location", {"text": "here"}, {"/text", "/location"}),
    ("image", {"text": "a"}, {"/media"}),
    ("text", {"text": "a", "media": FILE, "template": META_TEMPLATE, "interactive": CTA, "contacts": [CARD]},
     {"/media", "/template", "/interactive", "/contacts"}),
    ("image", {"media": FILE, "preview_url": True, "reaction": {"message_id": "msg_1", "emoji": "👍"}},
     {"/preview_url", "/reaction"}),
    ("image", {"media": []}, {"/media"}),
    ("image", {"media": [FILE] * 11}, {"/media"}),
    ("image", {"media": "https://x.org/a.jpg"}, {"/media"}),
    ("image", {"media": {}}, {"/media"}),
    ("image", {"media": {"url": "https://x.org/a.jpg", "id": "med_1"}}, {"/media"}),
    ("image", {"media": [FILE, {"url": "http://x.org/a.jpg"}, {"id": 7, "size": 1}]},
     {"/media/1/url", "/media/2/id", "/media/2/size"}),
    ("image", {"media": {"url": "https://me:pass@x.org/a.jpg"}}, {"/media/url"}),
    ("image", {"media": {"url": "https://x.org/" + "a" * 2048}}, {"/media/url"}),
    ("image", {"media": {"url": "https://x.org/a b"}}, {"/media/url"}),
    ("image", {"media": {"url": "https://[::1/a"}}, {"/media/url"}),
    ("image", {"media": {"url": "https://x.org:99999/a"}}, {"/media/url"}),
    ("image", {"media": {"url": "https:///a"}}, {"/media/url"}),
    ("image", {"media": {"url": "javascript:alert(1)"}}, {"/media/url"}),
    ("image", {"media": FILE | {"filename": "../a", "mime_type": "jpeg"}}, {"/media/filename", "/media/mime_type"}),
    ("image", {"media": FILE | {"filename": 'a".pdf\r\nX: y', "mime_type": "image/png;\r\nX: y"}},
     {"/media/filename", "/media/mime_type"}),
    ("template", {"template": {}}, {"/template/name", "/template/language"}),
    ("template", {"template": 7}, {"/template"}),
    ("template", {"template": META_TEMPLATE | TWILIO_TEMPLATE}, {"/template/name", "/template/language"}),
    ("template", {"template": META_TEMPLATE | {"variables": {}}}, {"/template/variables"}),
    ("template", {"template": TWILIO_TEMPLATE | {"variables": {"1": 7, "2": "", "3": "x" * 1601}}},
     {f"/template/variables/{n}" for n in (1, 2, 3)}),
    ("template", {"template": {"content_sid": "HX1"}}, {"/template/content_sid"}),
    ("template", {"template": META_TEMPLATE | {"components": [{"type": 1}, {"type": "b", "x": deep(20)},
                                                              {"type": "b", "x": [0] * 2000}, {"type": "a\x00"}, 3]}},
     {f"/template/components/{n}" for n in range(5)}),
    ("interactive", {"interactive": []}, {"/interactive"}),
    ("interactive", {"interactive": {"type": "carousel", "x": 1}}, {"/interactive/type"}),
    ("interactive", {"interactive": {"type": ["list"]}}, {"/interactive/type"}),
    ("interactive", {"interactive": {"type": "buttons", "text": "t" * 1025, "header": "h" * 61, "footer": "",
                                     "buttons": [{"id": "i" * 257, "title": "t" * 21}, {}], "sections": []}},
     {"/interactive/text", "/interactive/header", "/interactive/footer", "/interactive/buttons/0/id",
      "/interactive/buttons/0/title", "/interactive/buttons/1/id", "/interactive/buttons/1/title",
      "/interactive/sections"}),
    ("interactive", {"interactive": BUTTONS | {"buttons": []}}, {"/interactive/buttons"}),
    ("interactive", {"interactive": BUTTONS | {"buttons": [{"id": " ", "title": "a"}, {"id": "b ", "title": "b"}]}},
     {"/interactive/buttons/0/id", "/interactive/buttons/1/id"}),
    ("interactive", {"interactive": LIST | {"sections": [section(None, "1", " 2")]}},
     {"/interactive/sections/0/rows/1/id"}),
    ("interactive", {"interactive": BUTTONS | {"buttons": [{"id": str(n), "title": str(n)} for n in range(4)]}},
     {"/interactive/buttons"}),
    ("interactive", {"interactive": BUTTONS | {"buttons": [{"id": "1", "title": "a"}, {"id": "1", "title": "b"}]}},
     {"/interactive/buttons"}),
    ("interactive", {"interactive": BUTTONS | {"buttons": [{"id": "1", "title": "a"}, {"id": "2", "title": "a"}]}},
     {"/interactive/buttons"}),
    ("interactive", {"interactive": {"type": "list", "text": "t" * 4097, "button": "b" * 21,
                                     "sections": [{"rows": [{"id": "i" * 201, "title": "t" * 25,
                                                             "description": "d" * 73}]}, {"title": "t" * 25}]}},
     {"/interactive/text", "/interactive/button", "/interactive/sections/0/rows/0/id",
      "/interactive/sections/0/rows/0/title", "/interactive/sections/0/rows/0/description",
      "/interactive/sections/1/title", "/interactive/sections/1/rows"}),
    ("interactive", {"interactive": LIST | {"sections": [section("a", "1"), section(None, "2")]}},
     {"/interactive/sections"}),
    ("interactive", {"interactive": LIST | {"sections": [section("a", "1"), section("b", "1")]}},
     {"/interactive/sections"}),
    ("interactive", {"interactive": LIST | {"sections": [section("a", *"123456"), section("b", *"78901")]}},
     {"/interactive/sections"}),
    ("interactive", {"interactive": CTA | {"title": "t" * 21, "url": "http://x.org"}},
     {"/interactive/title", "/interactive/url"}),
    ("location", {"location": {"latitude": 90.01, "longitude": "3", "name": "", "zoom": 3}},
     {"/location/latitude", "/location/longitude", "/location/name", "/location/zoom"}),
    ("location", {"location": {"latitude": True, "longitude": -180.5}},
     {"/location/latitude", "/location/longitude"}),
    ("contacts", {"contacts": []}, {"/contacts"}),
    ("contacts", {"contacts": [CARD, {"name": {"formatted_name": "B"}},
                               {"name": {"formatted_name": "B", "prefix": None}}]},
     {"/contacts/1/name", "/contacts/2/name"}),
    ("text", {"text": " \n\u3000"}, {"/text"}),
    ("interactive", {"interactive": BUTTONS | {"text": " ", "buttons": [{"id": "1", "title": "\u2003"}]}},
     {"/interactive/text", "/interactive/buttons/0/title"}),
    ("contacts", {"contacts": [CARD] * 258}, {"/contacts"}),
    ("contacts", {"contacts": [{}, {"name": {"first_name": "A"}, "birthday": "soon", "phones": [{"phone": 1}],
                                    "vcard": ""}]},
     {"/contacts/0/name", "/contacts/1/name/formatted_name", "/contacts/1/birthday", "/contacts/1/phones/0/phone",
      "/contacts/1/vcard"}),
    ("reaction", {"reaction": {"message_id": "msg_1"}}, {"/reaction/emoji"}),
    *(("reaction", {"reaction": {"message_id": "msg_1", "emoji": said}}, {"/reaction/emoji"})
      for said in ("", " ", "ok", ":)", "1", "👍 ", "so👍")),
    ("reaction", {"reaction": {"emoji": "👍" * 21}, "reply_to": "x", "text": "y"},
     {"/reaction/message_id", "/reaction/emoji", "/reply_to", "/text"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "places"), BAD, ids=[f"{n}-{b[0]}" for n, b in enumerate(BAD)])
def test_every_fault_of_a_body_is_told_at_its_place(kind: str, fields: dict[str, Any], places: set[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        MessageIn.model_validate({"origin": "chatbot", "type": kind, **fields})
    assert {"/" + "/".join(map(str, fault["loc"])) for fault in caught.value.errors()} == places


NAMES = ("text", "media", "template", "interactive", "location", "contacts", "reaction", "reply_to", "preview_url")
WORDS = st.text(max_size=8) | st.sampled_from(["type", "url", "id", "name", "buttons", "list", "title", "content_sid"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(NAMES), ANY, max_size=3))
def test_any_json_is_refused_or_taken_as_json_that_can_be_stored(kind: str, fields: dict[str, Any]) -> None:
    try:
        _, content = MessageIn.model_validate({"origin": "chatbot", "type": kind, **fields}).content()
    except ValidationError:
        return
    assert orjson.loads(orjson.dumps(content)) == content
    assert b"\\u0000" not in orjson.dumps(content)


# What a medium carries ----------------------------------------------------------------------------------------------

SENDERS = {
    ("meta", "whatsapp"): META["whatsapp"],
    ("twilio", "whatsapp"): TWILIO["whatsapp"],
    ("twilio", "sms"): TWILIO["sms"],
}
IMPOSSIBLE: dict[tuple[str, str], set[str]] = {
    ("meta", "whatsapp"): set(),
    ("twilio", "whatsapp"): {"sticker", "interactive", "contacts", "reaction"},
    ("twilio", "sms"): {"sticker", "interactive", "contacts", "reaction", "location"},
}


@pytest.mark.parametrize(("provider", "medium"), SENDERS, ids="-".join)
def test_what_a_sender_cannot_do_is_named(provider: str, medium: str) -> None:
    can, impossible = SENDERS[provider, medium], IMPOSSIBLE[provider, medium]
    for kind in set(kinds.KINDS) - impossible:
        kinds.check_kind(kind, {}, medium, provider, can)
    for kind in impossible:
        with pytest.raises(Invalid, match=rf"{kind} over {medium} .*\(rule E10\)") as caught:
            kinds.check_kind(kind, {}, medium, provider, can)
        assert (caught.value.code, caught.value.facts["unsupported"]) == ("unsupported_on_medium", kind)


@pytest.mark.parametrize(("provider", "medium"), SENDERS, ids="-".join)
def test_quoting_where_it_can_be_done(provider: str, medium: str) -> None:
    content = {"reply_to": {"provider_id": "x"}}
    if provider == "meta":
        kinds.check_kind("text", content, medium, provider, SENDERS[provider, medium])
        return
    with pytest.raises(Invalid, match=f"reply_to over {medium}"):
        kinds.check_kind("text", content, medium, provider, SENDERS[provider, medium])


@pytest.mark.parametrize(
    ("kind", "medium", "provider", "most"),
    [
        ("text", "whatsapp", "meta", 4096),
        ("text", "whatsapp", "twilio", 1600),
        ("text", "sms", "twilio", 1600),
        ("image", "whatsapp", "meta", 1024),
        ("image", "whatsapp", "twilio", 1024),
        ("document", "whatsapp", "meta", 1024),
        ("document", "sms", "twilio", 1600),
        ("audio", "sms", "twilio", 1600),
    ],
)
def test_texts_and_captions_have_a_length(kind: str, medium: str, provider: str, most: int) -> None:
    kinds.check_text(kind, {"text": "x" * most}, medium, provider)
    kinds.check_text(kind, {}, medium, provider)
    with pytest.raises(Invalid) as caught:
        kinds.check_text(kind, {"text": "x" * (most + 1)}, medium, provider)
    assert caught.value.code == "text_too_long"
    assert str(most) in caught.value.detail


@pytest.mark.parametrize(
    ("kind", "provider"), [("audio", "meta"), ("sticker", "meta"), ("audio", "twilio"), ("document", "twilio")]
)
def test_what_carries_no_text_on_whatsapp(kind: str, provider: str) -> None:
    with pytest.raises(Invalid) as caught:
        kinds.check_text(kind, {"text": "x"}, "whatsapp", provider)
    assert caught.value.code == "unsupported_on_medium"
    assert [fault.pointer for fault in caught.value.errors] == ["/text"]


@pytest.mark.parametrize(
    ("kind", "medium", "file", "code"),
    [
        ("image", "whatsapp", {}, None),
        ("image", "whatsapp", {"mime_type": "image/png", "size": 5 * kinds.MB}, None),
        ("image", "whatsapp", {"mime_type": "image/png", "size": 5 * kinds.MB + 1}, "media_too_large"),
        ("image", "whatsapp", {"mime_type": "image/gif"}, "media_type_unsupported"),
        ("image", "whatsapp", {"mime_type": "image/webp"}, "media_type_unsupported"),
        ("image", "whatsapp", {"mime_type": "application/pdf"}, "media_type_unsupported"),
        ("image", "sms", {"mime_type": "image/gif"}, None),
        ("image", "sms", {"mime_type": "image/gif", "size": 5 * kinds.MB + 1}, "media_too_large"),
        ("audio", "whatsapp", {"mime_type": "audio/OGG; codecs=opus", "size": 16 * kinds.MB}, None),
        ("audio", "whatsapp", {"mime_type": "audio/ogg", "size": 16 * kinds.MB + 1}, "media_too_large"),
        ("video", "whatsapp", {"mime_type": "video/mp4", "size": 16 * kinds.MB + 1}, "media_too_large"),
        ("document", "whatsapp", {"mime_type": "application/pdf", "size": 100 * kinds.MB}, None),
        ("document", "whatsapp", {"mime_type": "application/pdf", "size": 100 * kinds.MB + 1}, "media_too_large"),
        ("document", "whatsapp", {"mime_type": "image/png", "size": 6 * kinds.MB}, None),
        ("document", "whatsapp", {"mime_type": "text/html"}, "media_type_unsupported"),
        ("sticker", "whatsapp", {"mime_type": "image/webp", "size": 500 * 1024}, None),
        ("sticker", "whatsapp", {"mime_type": "image/webp", "size": 500 * 1024 + 1}, "media_too_large"),
        ("sticker", "whatsapp", {"mime_type": "image/png"}, "media_type_unsupported"),
    ],
)
def test_files_have_a_type_and_a_size(kind: str, medium: str, file: dict[str, Any], code: str | None) -> None:
    if code is None:
        kinds.check_file(kind, file, medium, "meta", 0)
        return
    with pytest.raises(Invalid) as caught:
        kinds.check_file(kind, file, medium, "meta", 3)
    assert caught.value.code == code
    assert caught.value.errors[0].pointer.startswith("/media/3")


def test_twilio_fetches_less_than_meta_takes() -> None:
    most = 16 * kinds.MB
    kinds.check_file("document", {"size": most}, "whatsapp", "twilio", 0)
    kinds.check_file("document", {"size": most + 1}, "whatsapp", "meta", 0)
    for kind, size in (("document", most + 1), ("image", 5 * kinds.MB + 1)):
        with pytest.raises(Invalid) as caught:
            kinds.check_file(kind, {"size": size}, "whatsapp", "twilio", 0)
        assert caught.value.code == "media_too_large"


def test_files_of_several_kinds_go_together_where_several_can() -> None:
    kinds.check_file("image", {"mime_type": "video/mp4"}, "sms", "twilio", 1, is_mixed=True)
    with pytest.raises(Invalid):
        kinds.check_file("image", {"mime_type": "text/html"}, "sms", "twilio", 1, is_mixed=True)
    kinds.check_file_count(10, "sms", "twilio")
    for count, medium in ((11, "sms"), (2, "whatsapp")):
        with pytest.raises(Invalid, match=f"{count} files in one message over {medium}"):
            kinds.check_file_count(count, medium, "twilio")


def test_over_sms_files_share_one_messages_room() -> None:
    files = [{"size": 3 * kinds.MB}, {"url": "https://x.org/a"}, {"size": 2 * kinds.MB}]
    kinds.check_total(files, "sms")
    kinds.check_total([*files, {"size": 1}], "whatsapp")
    with pytest.raises(Invalid) as caught:
        kinds.check_total([*files, {"size": 1}], "sms")
    assert (caught.value.code, caught.value.errors[0].pointer) == ("media_too_large", "/media")


@pytest.mark.parametrize(
    ("mime_type", "kind"),
    [
        ("image/jpeg", "image"),
        ("IMAGE/PNG", "image"),
        ("image/webp", "sticker"),
        ("video/mp4", "video"),
        ("audio/ogg; codecs=opus", "audio"),
        ("application/pdf", "document"),
        ("text/vcard", "document"),
        ("multipart/mixed", None),
        ("", None),
        (None, None),
    ],
)
def test_the_kind_of_a_file(mime_type: str | None, kind: str | None) -> None:
    assert kinds.kind_of(mime_type) == kind


@pytest.mark.parametrize(
    ("name", "mime_type"),
    [
        ("https://x.org/a/b.JPG?size=1#.pdf", "image/jpeg"),
        ("https://x.org/a.pdf", "application/pdf"),
        ("https://x.org/download", None),
        ("https://x.org/page.html", None),
        ("a.OPUS", "audio/ogg"),
        ("jpg", None),
        ("scan.pdf", "application/pdf"),
        ("", None),
    ],
)
def test_the_type_that_a_name_promises(name: str, mime_type: str | None) -> None:
    assert kinds.guess_mime_type(name) == mime_type


def test_every_type_that_can_be_uploaded_has_an_ending_that_leads_back_to_it() -> None:
    for mime_type in kinds.MIME_TYPES:
        assert kinds.guess_mime_type(f"file{kinds.extension_of(mime_type)}") == mime_type
    assert kinds.extension_of("application/octet-stream") == ""


def test_templates_are_named_as_their_provider_knows_them() -> None:
    kinds.check_template_form(META_TEMPLATE, "meta")
    kinds.check_template_form(TWILIO_TEMPLATE, "twilio")
    for template, provider, needed in ((META_TEMPLATE, "twilio", "content_sid"), (TWILIO_TEMPLATE, "meta", "language")):
        with pytest.raises(Invalid, match=needed) as caught:
            kinds.check_template_form(template, provider)
        assert caught.value.code == "template_mismatch"


def test_templates_that_meta_lets_nobody_send() -> None:
    for status in (None, "approved", "pending", "unsubmitted"):
        kinds.check_template_status(status, "whatsapp")
    for status in ("rejected", "paused", "disabled"):
        kinds.check_template_status(status, "sms")
        with pytest.raises(Invalid) as caught:
            kinds.check_template_status(status, "whatsapp")
        assert (caught.value.code, caught.value.facts) == ("template_unavailable", {"template_status": status})
