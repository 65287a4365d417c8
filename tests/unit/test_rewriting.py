"""Which links of a message are tracked, and what is sent instead (rule F)."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.domain.errors import Invalid
from hub.domain.link_marks import LinkWishes, Marks, component_fault, is_whole_link, pointer, unmark
from hub.domain.link_tokens import ANONYMOUS_LENGTH, PERSONAL_LENGTH
from hub.domain.rewriting import WHY, Outgoing, Plan, ShortLinks, find_places, plan_links, rewrite, segments_of
from hub.domain.segments import count_segments
from hub.domain.untracked import Reason
from hub.domain.urls import find_links

HOST = ShortLinks("https://go.shop.example", "go.shop.example", ("shop.localhost",))
X, Y = "https://shop.example/x", "https://shop.example/y?a=1"
SHORT = len("https://go.shop.example/") + PERSONAL_LENGTH
LONG = "https://shop.example/" + "p" * (SHORT - len("https://shop.example/"))
"""A link that is as long as a tracked one."""

Made = tuple[dict[str, Any], Plan]


def outgoing(kind: str, content: Mapping[str, Any], medium: str = "whatsapp", provider: str = "meta") -> Outgoing:
    return Outgoing(kind, content, medium, provider)


def sms(text: str) -> Outgoing:
    return outgoing("text", {"text": text}, "sms", "twilio")


def tokens_for(plan: Plan, length: int = PERSONAL_LENGTH) -> dict[str, str]:
    return {url: f"{number:0{length}d}" for number, url in enumerate(plan.targets)}


def made(message: Outgoing, wishes: LinkWishes | None = None, length: int = PERSONAL_LENGTH) -> Made:
    plan = plan_links(message, wishes or LinkWishes(), HOST, length)
    return rewrite(message.content, plan, HOST, tokens_for(plan, length)), plan


def short(number: int, length: int = PERSONAL_LENGTH) -> str:
    return HOST.url(f"{number:0{length}d}")


def marked(content: dict[str, Any], **wishes: Any) -> tuple[dict[str, Any], LinkWishes]:
    bare, marks = unmark(content)
    return bare, LinkWishes(marks=marks, **wishes)


def restored(content: Any, tokens: Mapping[str, str]) -> Any:
    """Every token put back for what it stands for; a suffix is one without its host."""
    if isinstance(content, dict):
        return {name: restored(value, tokens) for name, value in content.items()}
    if isinstance(content, list):
        return [restored(value, tokens) for value in content]
    if not isinstance(content, str):
        return content
    for url, token in tokens.items():
        content = url if content == token else content.replace(HOST.url(token), url)
    return content


# Places -------------------------------------------------------------------------------------------------------------

T0, T1 = short(0), short(1)
BODY = {"type": "body", "parameters": [{"type": "text", "text": f"See {X}", "track": True}]}
BUTTON = {
    "type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": X, "track": True}]
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "content", "sent", "places"),
    [
        pytest.param("text", {"text": f"a {X} b"}, {"text": f"a {T0} b"}, ["/text"], id="text"),
        pytest.param(
            "text", {"text": f"({X}), *{Y}* {X}."}, {"text": f"({T0}), *{T1}* {T0}."}, ["/text", "/text"], id="twice"
        ),
        pytest.param(
            "image",
            {"media": [{"url": "https://shop.example/a.jpg"}], "text": X},
            {"media": [{"url": "https://shop.example/a.jpg"}], "text": T0},
            ["/text"],
            id="a caption, not the file",
        ),
        pytest.param(
            "interactive",
            {"interactive": {"type": "cta_url", "text": f"{X}!", "header": X, "footer": Y, "title": X, "url": Y}},
            {"interactive": {"type": "cta_url", "text": f"{T0}!", "header": X, "footer": T1, "title": X, "url": T1}},
            ["/interactive/text", "/interactive/footer"],
            id="cta_url: body, footer and button, not header and title",
        ),
        pytest.param(
            "interactive",
            {"interactive": {"type": "buttons", "text": X, "buttons": [{"id": X, "title": Y}]}},
            {"interactive": {"type": "buttons", "text": T0, "buttons": [{"id": X, "title": Y}]}},
            ["/interactive/text"],
            id="buttons are no links",
        ),
        pytest.param(
            "interactive",
            {"interactive": {"type": "list", "text": X, "sections": [{"rows": [{"description": Y}]}]}},
            {"interactive": {"type": "list", "text": T0, "sections": [{"rows": [{"description": Y}]}]}},
            ["/interactive/text"],
            id="nor rows",
        ),
        pytest.param(
            "interactive",
            {"interactive": {"type": "cta_url", "text": X, "url": Y, "track": False}},
            {"interactive": {"type": "cta_url", "text": T0, "url": Y}},
            ["/interactive/text"],
            id="a button marked track: false",
        ),
        pytest.param(
            "template",
            {"template": {"name": "n", "components": [{"type": "body", "parameters": [{"type": "text", "text": X}]}]}},
            {"template": {"name": "n", "components": [{"type": "body", "parameters": [{"type": "text", "text": X}]}]}},
            [],
            id="variables are not tracked unasked",
        ),
        pytest.param(
            "template",
            {"template": {"name": "n", "components": [BODY, BUTTON]}},
            {
                "template": {
                    "name": "n",
                    "components": [
                        {"type": "body", "parameters": [{"type": "text", "text": f"See {T0}"}]},
                        {**BUTTON, "parameters": [{"type": "text", "text": "0" * PERSONAL_LENGTH}]},
                    ],
                }
            },
            ["/template/components/0/parameters/0/text"],
            id="body and button share a link",
        ),
        pytest.param(
            "template",
            {"template": {"components": [{"type": "CAROUSEL", "cards": [{"card_index": 0, "components": [BUTTON]}]}]}},
            {
                "template": {
                    "components": [
                        {
                            "type": "CAROUSEL",
                            "cards": [
                                {
                                    "card_index": 0,
                                    "components": [
                                        {**BUTTON, "parameters": [{"type": "text", "text": "0" * PERSONAL_LENGTH}]}
                                    ],
                                }
                            ],
                        }
                    ]
                }
            },
            ["/template/components/0/cards/0/components/0/parameters/0/text"],
            id="a card of a carousel",
        ),
        pytest.param(
            "template",
            {
                "template": {
                    "content_sid": "HX",
                    "variables": {"1": X, "2": f"go to {X}", "a/b": Y},
                    "track_variables": ["2"],
                    "track_suffixes": ["a/b"],
                }
            },
            {
                "template": {
                    "content_sid": "HX",
                    "variables": {"1": X, "2": f"go to {T0}", "a/b": f"{1:0{PERSONAL_LENGTH}d}"},
                }
            },
            ["/template/variables/2", "/template/variables/a~1b"],
            id="variables at Twilio",
        ),
        pytest.param("location", {"location": {"name": X}}, {"location": {"name": X}}, [], id="a place"),
        pytest.param(
            "contacts", {"contacts": [{"urls": [{"url": X}]}]}, {"contacts": [{"urls": [{"url": X}]}]}, [], id="a card"
        ),
    ],
)
def test_links_are_tracked_where_people_can_tap_them(
    kind: str, content: dict[str, Any], sent: dict[str, Any], places: list[str]
) -> None:
    given_as = deepcopy(content)
    bare, wishes = marked(content)
    message = outgoing(kind, bare)
    form, plan = made(message, wishes)
    assert form == sent
    assert [pointer(path) for _, path in plan.targets.values()] == places
    assert content == given_as  # nothing that was given is changed
    assert restored(form, tokens_for(plan)) == bare
    assert "track" not in str(bare)
    again = LinkWishes(marks=Marks(unwanted=wishes.marks.unwanted))
    assert made(outgoing(kind, form), again) == (form, Plan({}))


@pytest.mark.parametrize(
    "url",
    [
        "https://go.shop.example/Ab3dE6gH9jK", "HTTPS://GO.shop.example/x", "https://wa.me/491511",
        "mailto:a@b.example", "tel:+4915112345678", "https://shop.example/unsubscribe?u=1", "https://shop.example/a.jpg",
        "https://shop.example/reset?token=abc", "https://10.0.0.1/x", "https://user:pw@shop.example/", "shop.example/x",
        "https://shop.example/?X-Amz-Signature=abc",
    ],
)  # fmt: skip
def test_what_must_not_be_tracked_stays(url: str) -> None:
    form, plan = made(sms(f"{url} and {X}"))
    assert form == {"text": f"{url} and {T0}"}
    assert list(plan.targets) == [X]
    button = outgoing("interactive", {"interactive": {"type": "cta_url", "text": "Hi", "title": "Go", "url": url}})
    assert made(button) == (button.content, Plan({}))


def test_a_target_is_in_its_one_form_and_may_be_a_site_of_ones_own() -> None:
    _, plan = made(sms("https://bücher.example:443/ä HTTPS://www.shop.localhost:8080/x"))
    assert [target for target, _ in plan.targets.values()] == [
        "https://xn--bcher-kva.example/%C3%A4", "https://www.shop.localhost:8080/x",
    ]  # fmt: skip


@pytest.mark.parametrize("why", sorted(WHY))
def test_every_reason_can_be_told(why: str) -> None:
    reasons = {*Reason.__args__, "unwanted", "authentication"}  # type: ignore[attr-defined]
    assert set(WHY) == reasons
    assert WHY[why]


# What the author wants ----------------------------------------------------------------------------------------------


def test_the_author_can_leave_links_alone() -> None:
    message = sms(f"{X} {Y}")
    assert made(message, LinkWishes(track=False)) == (message.content, Plan({}))
    form, plan = made(message, LinkWishes(skip=frozenset({X, "https://other.example/"})))
    assert (form, list(plan.targets)) == ({"text": f"{X} {T0}"}, [Y])


def test_utm_parameters_are_added_where_there_are_none() -> None:
    wishes = LinkWishes(utm={"utm_source": "sms", "utm_campaign": "spring sale"})
    _, plan = made(sms(f"{X}#top {Y}&utm_source=own"), wishes)
    assert [target for target, _ in plan.targets.values()] == [
        f"{X}?utm_source=sms&utm_campaign=spring%20sale#top", f"{Y}&utm_source=own&utm_campaign=spring%20sale",
    ]  # fmt: skip


def test_a_suffix_has_to_be_tracked() -> None:
    """Every fault at once; nothing else that is sent there would lead anywhere."""
    bad = ("https://go.shop.example/abc", "https://shop.example/unsubscribe", "https://10.0.0.1/", X)
    content = {"template": {"variables": dict(zip("1234", bad, strict=True)), "track_suffixes": [*"1234"]}}
    bare, wishes = marked(content)
    with pytest.raises(Invalid) as refused:
        plan_links(outgoing("template", bare), wishes, HOST, PERSONAL_LENGTH)
    assert refused.value.code == "link_not_trackable"
    assert [(fault.pointer, fault.code) for fault in refused.value.errors] == [
        (f"/template/variables/{name}", "link_not_trackable") for name in "123"
    ]
    for more in ({"track": False}, {"skip": frozenset({X})}):
        bare, wishes = marked({"template": {"variables": {"1": X}, "track_suffixes": ["1"]}}, **more)
        with pytest.raises(Invalid, match="must not be"):
            plan_links(outgoing("template", bare), wishes, HOST, PERSONAL_LENGTH)


def test_authentication_templates_stay() -> None:
    bare, wishes = marked({"template": {"components": [BODY], "category": "authentication"}})
    assert made(outgoing("template", bare), wishes) == (bare, Plan({}))
    bare, wishes = marked({"template": {"components": [BUTTON], "category": "authentication"}})
    with pytest.raises(Invalid):
        made(outgoing("template", bare), wishes)


# Room ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "wrap", "room", "medium", "provider"),
    [
        ("text", lambda text: {"text": text}, 4096, "whatsapp", "meta"),
        ("text", lambda text: {"text": text}, 1600, "whatsapp", "twilio"),
        ("text", lambda text: {"text": text}, 1600, "sms", "twilio"),
        ("image", lambda text: {"text": text, "media": []}, 1024, "whatsapp", "meta"),
        ("image", lambda text: {"text": text, "media": []}, 1600, "sms", "twilio"),
        ("interactive", lambda text: {"interactive": {"type": "buttons", "text": text}}, 1024, "whatsapp", "meta"),
        ("interactive", lambda text: {"interactive": {"type": "list", "text": text}}, 4096, "whatsapp", "meta"),
        ("interactive", lambda text: {"interactive": {"type": "list", "footer": text}}, 60, "whatsapp", "meta"),
        (
            "template",
            lambda text: {"template": {"variables": {"1": text}, "track_variables": ["1"]}},
            1600,
            "sms",
            "twilio",
        ),
        (
            "template",
            lambda text: {
                "template": {
                    "components": [{"type": "HEADER", "parameters": [{"type": "text", "text": text, "track": True}]}]
                }
            },
            60,
            "whatsapp",
            "meta",
        ),
        (
            "template",
            lambda text: {
                "template": {
                    "components": [{"type": "body", "parameters": [{"type": "text", "text": text, "track": True}]}]
                }
            },
            1024,
            "whatsapp",
            "meta",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else "",
)
def test_a_text_that_would_get_too_long_keeps_its_links(
    kind: str, wrap: Any, room: int, medium: str, provider: str
) -> None:
    for length, is_tracked in ((room - SHORT + len(X), True), (room - SHORT + len(X) + 1, False)):
        bare, wishes = marked(wrap("a" * (length - len(X) - 1) + " " + X))
        _, plan = made(outgoing(kind, bare, medium, provider), wishes)
        assert bool(plan.targets) is is_tracked
    bare, wishes = marked(wrap("a" * (room - len(LONG) - 1) + " " + LONG))
    assert made(outgoing(kind, bare, medium, provider), wishes)[1].targets  # as long as before


def test_each_text_is_judged_by_itself() -> None:
    interactive = {"type": "cta_url", "text": X, "footer": "a" * 38 + " " + X, "url": X}
    form, plan = made(outgoing("interactive", {"interactive": interactive}))
    assert form["interactive"] == {**interactive, "text": T0, "url": T0}
    assert list(plan.targets) == [X]


# Segments -----------------------------------------------------------------------------------------------------------


def filled(length: int, link: str, filler: str = "a") -> str:
    return filler * (length - len(link) - 1) + " " + link


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        pytest.param(filled(160, LONG), 1, 1, id="160 stays"),
        pytest.param(filled(161, LONG), 2, 2, id="161 stays"),
        pytest.param(filled(160 - SHORT + len(X), X), 1, 1, id="gsm, just fits into one"),
        pytest.param(filled(161 - SHORT + len(X), X), 1, 2, id="gsm, one more"),
        pytest.param(filled(306 - SHORT + len(X), X), 2, 2, id="gsm, just fits into two"),
        pytest.param(filled(307 - SHORT + len(X), X), 2, 3, id="gsm, one more than two"),
        pytest.param(filled(459 - SHORT + len(X), X), 3, 3, id="gsm, just fits into three"),
        pytest.param(filled(460 - SHORT + len(X), X), 3, 4, id="gsm, one more than three"),
        pytest.param("ы" + filled(69 - SHORT + len(X), X), 1, 1, id="ucs-2, just fits into one"),
        pytest.param("ы" + filled(70 - SHORT + len(X), X), 1, 2, id="ucs-2, one more"),
        pytest.param("ы" + filled(133 - SHORT + len(X), X), 2, 2, id="ucs-2, just fits into two"),
        pytest.param("ы" + filled(134 - SHORT + len(X), X), 2, 3, id="ucs-2, one more than two"),
        pytest.param("ы" + filled(200 - SHORT + len(X), X), 3, 3, id="ucs-2, just fits into three"),
        pytest.param("ы" + filled(201 - SHORT + len(X), X), 3, 4, id="ucs-2, one more than three"),
        pytest.param("€" * 61 + filled(160 - 122 - SHORT + len(X), X), 1, 1, id="two septets, just fits"),
        pytest.param("€" * 61 + filled(161 - 122 - SHORT + len(X), X), 1, 2, id="two septets, one more"),
        pytest.param(f"{'a' * 124} {X}?q=[{'~' * 30}]", 2, 1, id="fewer: the link had two-septet characters"),
        pytest.param(f"{'a' * 60} https://shop.example/ç", 2, 1, id="fewer: the link was not gsm"),
        pytest.param(f"{'a' * 60} https://shop.example/ы", 2, 1, id="fewer: the link was in Cyrillic"),
        pytest.param(filled(160, "https://shop.example/" + "p" * 90), 1, 1, id="shorter, still one"),
    ],
)
def test_segments_before_and_after(text: str, before: int, after: int) -> None:
    message = sms(text)
    form, plan = made(message)
    assert plan.targets
    assert (segments_of(message), count_segments(form["text"])) == (before, after)
    careful, kept = made(message, LinkWishes(never_more_segments=True))
    assert careful == (form if after <= before else message.content)
    assert bool(kept.targets) is (after <= before)


def test_a_shorter_token_may_fit_where_a_personal_one_does_not() -> None:
    message = sms(filled(160 - SHORT + len(X) + PERSONAL_LENGTH - ANONYMOUS_LENGTH, X))
    careful = LinkWishes(never_more_segments=True)
    assert not plan_links(message, careful, HOST, PERSONAL_LENGTH).targets
    assert plan_links(message, careful, HOST, ANONYMOUS_LENGTH).targets


def test_only_texts_by_sms_have_segments() -> None:
    long = {"text": filled(161 - SHORT + len(X), X)}
    for message in (outgoing("text", long), outgoing("image", {**long, "media": []}, "sms", "twilio")):
        assert segments_of(message) is None
        assert made(message, LinkWishes(never_more_segments=True))[1].targets


# Marks --------------------------------------------------------------------------------------------------------------


def parameter(**more: Any) -> dict[str, Any]:
    return {"type": "text", "text": X, "track": True, **more}


@pytest.mark.parametrize(
    ("component", "fault"),
    [
        ({"type": "body", "parameters": [parameter()]}, None),
        ({"type": "BODY", "parameters": [parameter(text="no link at all")]}, None),
        ({"type": "header", "parameters": [parameter()]}, None),
        ({"type": "button", "sub_type": "URL", "parameters": [parameter()]}, None),
        ({"type": "button", "sub_type": "url", "parameters": [parameter(track=False, text="suffix")]}, None),
        ({"type": "button", "sub_type": "quick_reply", "parameters": [{"type": "payload", "payload": "x"}]}, None),
        ({"type": "button", "sub_type": "flow", "parameters": [{"action": {"flow_action_data": {"track": 7}}}]}, None),
        ({"type": "body", "parameters": "x"}, None),
        ({"type": "body", "parameters": ["x", parameter(track="yes")]}, "parameters/1: track is true or false"),
        ({"type": "body", "parameters": [parameter(track=1)]}, "parameters/0: track is true or false"),
        ({"type": "body", "parameters": [parameter(type="currency")]}, "parameters/0: track stands beside a text"),
        ({"type": "body", "parameters": [parameter(text=None)]}, "parameters/0: track stands beside a text"),
        ({"type": "footer", "parameters": [parameter()]}, "parameters/0: track stands beside a text"),
        (
            {"type": "button", "sub_type": "quick_reply", "parameters": [parameter()]},
            "parameters/0: track stands beside a text",
        ),
        (
            {"type": "button", "sub_type": "url", "parameters": [parameter(text="x/y")]},
            "parameters/0: to be tracked, the text of a url button is the whole",
        ),
        (
            {"type": "carousel", "cards": [{}, {"components": [{**BUTTON, "parameters": [parameter(text="x")]}]}]},
            "cards/1/components/0/parameters/0: to be tracked",
        ),
    ],
    ids=str,
)
def test_marks_in_components_are_judged(component: dict[str, Any], fault: str | None) -> None:
    found = component_fault(component)
    assert (found or "").startswith(fault or "")
    assert (found is None) is (fault is None)
    bare, _ = unmark({"template": {"components": [component]}})
    assert not re.search("'track': (True|False|1|'yes')", str(bare))


@pytest.mark.parametrize(
    ("text", "is_link"),
    [(X, True), ("http://x.example", True), ("https://10.0.0.1/", True), (f"{X} ", False), ("x", False),
     (f"a {X}", False), ("", False), (None, False), ("ftp://x.example", False)],
)  # fmt: skip
def test_a_whole_link(text: object, is_link: bool) -> None:
    assert is_whole_link(text) is is_link


def test_what_is_not_marked_is_not_changed() -> None:
    for content in ({"text": X}, {"template": {"name": "n", "language": "en"}}, {"interactive": {"type": "list"}}):
        assert unmark(content) == (content, Marks())


# Whatever is written ------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [X, Y, LONG, "https://go.shop.example/Ab3dE6gH9jK", "http://bücher.example/ä", "https://shop.example/unsubscribe",
     "https://shop.example/a_(b)", "HTTPS://SHOP.example/x", "*", "_", "~", "`", "(", ")", "[", "]", ".", ",", "…",
     "。", "\n", " ", "»", "„", "€", "ы", "😀", "https://", "a", "://", "http://[::1]/", "https://shop.example/x?token=1"]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=14).map("".join)


@settings(max_examples=100)
@given(TEXTS, st.booleans(), st.booleans(), st.sampled_from([PERSONAL_LENGTH, ANONYMOUS_LENGTH]))
def test_whatever_is_written_comes_back(text: str, is_sms: bool, is_careful: bool, length: int) -> None:
    message = sms(text) if is_sms else outgoing("text", {"text": text})
    wishes = LinkWishes(never_more_segments=is_careful)
    form, plan = made(message, wishes, length)
    tokens = tokens_for(plan, length)
    assert restored(form, tokens) == message.content  # round trip
    again = outgoing("text", form, message.medium, message.provider)
    assert made(again, wishes, length)[0] == form  # idempotence
    seen = [link.url for link in find_links(form["text"])]
    assert {HOST.url(token) for token in tokens.values()} <= {url[: len(HOST.base) + 1 + length] for url in seen}
    if is_sms and is_careful:
        assert count_segments(form["text"]) <= count_segments(text)


@settings(max_examples=100)
@given(st.dictionaries(st.text(min_size=1, max_size=3), TEXTS.filter(bool), max_size=4), st.data())
def test_so_do_variables(variables: dict[str, str], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(sorted(variables)), unique=True) if variables else st.just([]))
    bare, wishes = marked({"template": {"variables": variables, "track_variables": wanted}})
    message = outgoing("template", bare, "sms", "twilio")
    form, plan = made(message, wishes)
    assert {place.path[2] for place in find_places(message, wishes.marks)} == set(wanted)
    changed = {name for name, text in form["template"]["variables"].items() if text != variables[name]}
    assert changed <= set(wanted)
    assert restored(form, tokens_for(plan)) == bare
