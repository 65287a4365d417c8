"""Links of a message that goes out: where they stand, which are tracked, and what is sent instead (rule F).

Tracked are links that the author wrote into what people can tap: texts, captions, the body and footer of an interactive
message (WhatsApp shows headers and titles as they are), the URL of a button, and the variables of a template that are
marked for it. What a template was approved with stays what it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.domain.errors import Fault, Invalid
from hub.domain.kinds import FILE_KINDS, MAX_CAPTION, MAX_TEXT, MAX_URL
from hub.domain.link_marks import Form, LinkWishes, Marks, Path, pointer
from hub.domain.link_targets import add_utm, check_target
from hub.domain.segments import count_segments
from hub.domain.untracked import Reason, why_untracked
from hub.domain.urls import Found, find_links, replace_links

MAX_VARIABLE: Final = 1600
"""Characters of a variable at Twilio; Meta's count with the whole text of the template."""
_MAX_BODY: Final = {"buttons": 1024, "cta_url": 1024, "list": 4096}
_MAX_LINE: Final = 60
_MAX_PARAMETER: Final = 1024

WHY: Final[Mapping[str, str]] = {
    "not_http": "it is no http or https URL",
    "target_refused": "it leads where no tracked link may lead",
    "link_host": "it is on the link host already",
    "messenger": "it opens a messenger by itself",
    "opt_out": "it looks like an opt-out, which must work without the hub",
    "signed": "it looks signed or good for once",
    "media": "it is a file that machines fetch",
    "unwanted": "the message says that it is not to be tracked",
    "authentication": "it is in an authentication template",
}
"""Why a link is left as it is, to be told where that is not possible."""


@dataclass(frozen=True, slots=True)
class ShortLinks:
    """Where tracked links are: `base` is their URL up to the token, without the slash; `name` its host without a port.
    `own_domains` are sites that links may lead to though they are private (`check_target`).
    """

    base: str
    name: str
    own_domains: tuple[str, ...] = ()

    def url(self, token: str) -> str:
        """The short URL of a token."""
        return f"{self.base}/{token}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as its author wrote it, without marks."""

    kind: str
    content: Mapping[str, Any]
    medium: str
    provider: str


@dataclass(frozen=True, slots=True)
class Place:
    """A text within a content that may hold links; `room` is how many characters the provider takes there."""

    path: Path
    form: Form
    text: str
    room: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The links of one place that are to be tracked."""

    place: Place
    links: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be tracked: by each URL as it was written, where the link leads and where it stands first."""

    targets: Mapping[str, tuple[str, Path]]
    choices: Sequence[Choice] = ()


NOTHING: Final = Plan({})


# What is tracked ----------------------------------------------------------------------------------------------------


def plan_links(message: Outgoing, wishes: LinkWishes, host: ShortLinks, token_length: int) -> Plan:
    """Which links of a message are tracked; a text that would get too long for its provider keeps its own.

    The same URL is one link, however often it stands in the message. Raises `Invalid` (`link_not_trackable`) where a
    template needs a link tracked that must not be.
    """
    places = list(find_places(message, wishes.marks))
    _check_suffixes(places, message, wishes, host)
    if not wishes.track or _is_authentication(message):
        return NOTHING
    choices = [_choose(place, wishes, host) for place in places]
    kept = [choice for choice in choices if choice.links and _has_room(choice, host, token_length)]
    targets: dict[str, tuple[str, Path]] = {}
    for choice in kept:
        for link in choice.links:
            target = add_utm(check_target(link.url, host.own_domains), wishes.utm)
            targets.setdefault(link.url, (target, choice.place.path))
    plan = Plan(targets, kept)
    if not kept or (wishes.never_more_segments and _adds_segments(message, plan, host, token_length)):
        return NOTHING
    return plan


def find_places(message: Outgoing, marks: Marks) -> Iterator[Place]:
    """Where links of a message may stand."""
    content = message.content
    if message.kind == "text" or message.kind in FILE_KINDS:
        room = MAX_TEXT[message.provider] if message.kind == "text" else MAX_CAPTION[message.medium]
        yield from _texts(content, {("text",): ("text", room)})
    elif message.kind == "interactive":
        room = _MAX_BODY[content["interactive"]["type"]]
        wanted: dict[Path, tuple[Form, int]] = {
            ("interactive", "text"): ("text", room),
            ("interactive", "footer"): ("text", _MAX_LINE),
            ("interactive", "url"): ("url", MAX_URL),
        }
        yield from _texts(content, {path: how for path, how in wanted.items() if path not in marks.unwanted})
    elif message.kind == "template":
        yield from _texts(content, {path: (form, _room(content, path)) for path, form in marks.wanted.items()})


def _texts(content: Mapping[str, Any], wanted: Mapping[Path, tuple[Form, int]]) -> Iterator[Place]:
    for path, (form, room) in wanted.items():
        text = _at(content, path)
        if isinstance(text, str) and text:
            yield Place(path, form, text, room)


def _room(content: Mapping[str, Any], path: Path) -> int:
    """How much a variable of a template may hold; Meta counts header and body apart."""
    if "variables" in path:
        return MAX_VARIABLE
    component = _at(content, path[:-3])
    return _MAX_LINE if str(component.get("type")).lower() == "header" else _MAX_PARAMETER


def _is_authentication(message: Outgoing) -> bool:
    return (message.content.get("template") or {}).get("category") == "authentication"


def _choose(place: Place, wishes: LinkWishes, host: ShortLinks) -> Choice:
    links = find_links(place.text) if place.form == "text" else [Found(0, len(place.text), place.text)]
    return Choice(place, tuple(link for link in links if _why_kept(link.url, wishes, host) is None))


def _why_kept(url: str, wishes: LinkWishes, host: ShortLinks) -> Reason | str | None:
    return "unwanted" if url in wishes.skip else why_untracked(url, host.name, host.own_domains)


def _check_suffixes(places: Sequence[Place], message: Outgoing, wishes: LinkWishes, host: ShortLinks) -> None:
    """What follows the link host in an approved URL has to be a token: anything else would lead nowhere."""
    faults = []
    for place in places:
        if place.form != "suffix":
            continue
        why = _why_kept(place.text, wishes, host) if wishes.track else "unwanted"
        if why := "authentication" if _is_authentication(message) else why:
            faults.append(Fault(pointer(place.path), "link_not_trackable", f"cannot be tracked: {WHY[why]}"))
    if faults:
        raise Invalid(
            "A link of the template is to be tracked and must not be (rule F): use a template whose button leads there"
            " by itself.",
            code="link_not_trackable",
            errors=faults,
        )


def _has_room(choice: Choice, host: ShortLinks, token_length: int) -> bool:
    """Whether a text fits once its links are tracked; one that does not get longer fits as well as before."""
    length = len(host.url("")) + token_length
    if choice.place.form == "suffix":
        return True
    more = sum(length - len(link.url) for link in choice.links)
    return more <= 0 or len(choice.place.text) + more <= choice.place.room


def _adds_segments(message: Outgoing, plan: Plan, host: ShortLinks, token_length: int) -> bool:
    """Tokens are written in letters that are one septet each: any will do to count by."""
    before = segments_of(message)
    if before is None:
        return False
    made = rewrite(message.content, plan, host, dict.fromkeys(plan.targets, "x" * token_length))
    return count_segments(made["text"]) > before


def segments_of(message: Outgoing) -> int | None:
    """How many SMS a message is billed as; None where nobody counts them."""
    return count_segments(message.content["text"]) if (message.medium, message.kind) == ("sms", "text") else None


# What is sent -------------------------------------------------------------------------------------------------------


def rewrite(content: Mapping[str, Any], plan: Plan, host: ShortLinks, tokens: Mapping[str, str]) -> dict[str, Any]:
    """The content as it is handed to the provider; `tokens` by the URLs of the plan."""
    made: Any = content
    for choice in plan.choices:
        if choice.place.form == "suffix":
            text = tokens[choice.place.text]
        else:
            text = replace_links(choice.place.text, {link: host.url(tokens[link.url]) for link in choice.links})
        made = _put(made, choice.place.path, text)
    return dict(made)


def _at(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        else:
            value = value[step] if isinstance(value, list) and isinstance(step, int) else None
    return value


def _put(value: Any, path: Path, text: str) -> Any:
    """A copy with another text at a place; what was given stays as it is."""
    if not path:
        return text
    made: Any = dict(value) if isinstance(value, Mapping) else list(value)
    made[path[0]] = _put(value[path[0]], path[1:], text)
    return made
