"""Who made a request to a tracked link: a person, or one of the machines that fetch links (rules K1 and K4).

Only people count, and only people get a cookie. Everything else is stored with its verdict, so that a later look at
the numbers can tell why. Two things besides the click depend on the verdict: a request made in advance is put off (a
browser reuses the redirect that it prefetched, and then the click itself never arrives), and a preview made by an app
that did not carry the message shows that somebody pasted a personal link elsewhere.

The agents below are from: Meta, "Meta Web Crawlers"; Google, "User-triggered fetchers"; Slack, "Slack robots"; Snap,
"Snap robots"; X, "Cards getting started"; Signal's issue tracker ("Web preview identifies as WhatsApp/2"); and the
logs that people show in the trackers of crawler-user-agents, Crawler-Detect and ua-parser-js. Crawlers are the list of
the package crawler-user-agents.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from crawleruseragents import CRAWLER_USER_AGENTS_DATA  # type: ignore[import-untyped]

Kind = Literal["person", "prefetch", "head", "other_method", "no_agent", "preview", "crawler", "subresource", "early"]
"""`early`: before the provider took the message, so nobody can have it; `subresource`: a part of another page."""
Answer = Literal["redirect", "retry_later"]
"""`retry_later`: 503 with `Cache-Control: no-store`, never a redirect and never 204."""

_Row = tuple[str, re.Pattern[str]]

_EXAMINED: Final = 512
"""Characters of an agent that are looked at. Browsers send 100 to 450; the cost grows with the length."""
_REMEMBERED: Final = 4096
"""Agents whose verdict is kept: about 3 MB at most."""


def _rows(table: Mapping[str, str]) -> tuple[_Row, ...]:
    return tuple((app, re.compile(pattern, re.IGNORECASE | re.ASCII)) for app, pattern in table.items())


# The first row that fits decides: many pretend to be Facebook's or X's, and so stand before them.
_PREVIEWS: Final = _rows(
    {
        "google_messages": r"GoogleMessages|Google-PageRenderer|developers\.google\.com/(?:\+/)?web/snippet",
        "line": r"line-poker|^Line/",
        "kakaotalk": r"kakaotalk-scrap",
        "naver": r"Blueno/|belly-scrap",
        "irc": r"The Lounge IRC",
        "remind": r"RemindPreview",
        "imessage": r"^Mozilla/.*Macintosh.*facebookexternalhit/\S+ Facebot Twitterbot/",
        "telegram": r"TelegramBot",
        "signal": r"^WhatsApp(?:/2)?(?![\w./])",
        "whatsapp": r"^WhatsApp/",
        "meta": r"facebookexternal|facebookplatform|facebookcatalog|Facebot|meta-external(?:hit|fetcher)",
        "twitter": r"Twitterbot",
        "slack": r"Slackbot|Slack-ImgProxy",
        "discord": r"Discordbot",
        "linkedin": r"LinkedInBot",
        "teams": r"SkypeUriPreview|skype-url-preview",
        "viber": r"^Viber|ViberBot",
        "snapchat": r"Snap URL Preview|SnapURLPreview|^Snapchat/",
        "pinterest": r"^Pinterest/|Pinterestbot|pinterest\.com/bot",
        "reddit": r"redditbot",
        "bluesky": r"Bluesky Cardyb|BlueskyPreviewBot",
        "mastodon": r"\(Mastodon/|^Mastodon/",
        "matrix": r"^Synapse|matrix-org/synapse",
        "vk": r"vkShare",
        "odnoklassniki": r"OdklBot",
        "groupme": r"GroupMeBot",
        "keybase": r"KeybaseBot",
        "mattermost": r"Mattermost-Bot",
        "rocket_chat": r"^Rocket\.Chat",
        "dingtalk": r"DingTalkBot-LinkService",
        "chatwork": r"Chatwork LinkPreview",
        "steam": r"SteamChatURLLookup",
        "notion": r"^Notion/",
        "embedly": r"Embedly|Iframely",
        "outlook": r"MicrosoftPreview",
        "yahoo_mail": r"Yahoo Link Preview",
    }
)
_OWN: Final[Mapping[str, frozenset[str]]] = {
    "sms": frozenset({"imessage", "google_messages"}),
    "whatsapp": frozenset({"whatsapp", "meta"}),
    "email": frozenset({"outlook", "yahoo_mail"}),
}
"""Whose preview is a medium's own machinery. Signal calls itself `WhatsApp/2`, without more of a version."""

_PURPOSES: Final = frozenset({"prefetch", "prerender", "preview", "instant"})
_PURPOSE_TOKEN: Final = re.compile(r"[a-z0-9_-]+")

_PEOPLE: Final = frozenset({"WhatsApp", "MetaIAB Facebook"})
"""Patterns of the package that fit browsers inside apps, in which people open links."""
_LIBRARIES: Final = (
    r"^(?:Bun|Dalvik|Dart|Deno|Faraday|GuzzleHttp|Java|PHP|PostmanRuntime|RestSharp|Ruby|Symfony)\b",
    r"^(?:hackney|insomnia|k6|libcurl|lua-resty|node|okhttp|python-urllib3|reqwest|undici)\b",
    r"CFNetwork/|dataaccessd/|WindowsPowerShell/|^Microsoft-CryptoAPI/",
    r"^Microsoft Office/|\bms-office\b",
    r"Barracuda Sentinel",
    r"^Mozilla/\d\.\d$",
)
"""What the package leaves out and no browser says: what programs fetch with, Office looking at a link before it opens
the browser, a scanner of messages, a browser's name without a browser.
"""
_PLAIN: Final = re.compile(r"(?:[^\\^$.|?*+()\[\]{}]|\\\W)+")
_ESCAPED: Final = re.compile(r"\\(\W)")


def _crawlers() -> tuple[tuple[str, ...], re.Pattern[str]]:
    """The package's patterns: those that are plain words (nineteen in twenty) to be searched as such, at a fraction
    of the cost of one large expression, and one expression of the rest.
    """
    patterns = [str(entry["pattern"]) for entry in CRAWLER_USER_AGENTS_DATA]
    patterns = [pattern for pattern in patterns if pattern not in _PEOPLE]
    words = [_ESCAPED.sub(r"\1", pattern) for pattern in patterns if _PLAIN.fullmatch(pattern)]
    others = [pattern for pattern in patterns if not _PLAIN.fullmatch(pattern)]
    return tuple(words), re.compile("|".join((*_LIBRARIES, *others)))


_WORDS, _EXPRESSION = _crawlers()


@dataclass(frozen=True, slots=True)
class ClickFacts:
    """What is known of one request to a tracked link.

    `medium`: over which the link was sent (`sms`, `whatsapp`, `email`), None for one that was not sent in a message;
    `is_personal`: the token stands for one recipient; `accepted_by_provider_at`: when the provider took the message,
    None as long as it has not. The headers are as received, None where absent; one that came several times is joined
    by commas.
    """

    method: str
    at: datetime
    medium: str | None = None
    is_personal: bool = False
    accepted_by_provider_at: datetime | None = None
    user_agent: str | None = None
    sec_purpose: str | None = None
    purpose: str | None = None
    x_moz: str | None = None
    x_purpose: str | None = None
    sec_fetch_dest: str | None = None
    sec_fetch_mode: str | None = None
    sec_gpc: str | None = None


_HEADERS: Final[Mapping[str, str]] = {
    "user-agent": "user_agent",
    "sec-purpose": "sec_purpose",
    "purpose": "purpose",
    "x-moz": "x_moz",
    "x-purpose": "x_purpose",
    "sec-fetch-dest": "sec_fetch_dest",
    "sec-fetch-mode": "sec_fetch_mode",
    "sec-gpc": "sec_gpc",
}


def header_facts(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that matter, by the names of `ClickFacts`: `ClickFacts(method, at, **header_facts(pairs))`."""
    found: dict[str, str] = {}
    for name, value in headers:
        if field := _HEADERS.get(name.lower()):
            found[field] = f"{found[field]}, {value}" if field in found else value
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who it was, and what follows.

    `counts`: it is a click, and may bind (K1); `answer`: what is sent back; `gets_cookie`: so far as the request goes,
    consent is a matter of its own; `makes_suspect`: the personal token was pasted elsewhere (K4); `opted_out`: Global
    Privacy Control; `reason`: a stable word for reports, of a closed set.
    """

    kind: Kind
    reason: str
    counts: bool
    answer: Answer
    gets_cookie: bool
    makes_suspect: bool
    opted_out: bool


def classify(facts: ClickFacts) -> Verdict:
    """Judge one request. Never raises: whatever a header holds, there is a verdict."""
    app, is_crawler = _agent((facts.user_agent or "")[:_EXAMINED])
    kind, reason = _kind(facts, app, is_crawler)
    is_person, opted_out = kind == "person", _opted_out(facts)
    return Verdict(
        kind=kind,
        reason=reason,
        counts=is_person,
        answer="retry_later" if kind == "prefetch" else "redirect",
        gets_cookie=is_person and not opted_out,
        makes_suspect=facts.is_personal and app is not None and _is_foreign(app, facts.medium),
        opted_out=opted_out,
    )


def _kind(facts: ClickFacts, app: str | None, is_crawler: bool) -> tuple[Kind, str]:
    # Prefetching is first, since it alone changes the answer, whatever else the request is.
    return next(_objections(facts, app, is_crawler), ("person", "person"))


def _objections(facts: ClickFacts, app: str | None, is_crawler: bool) -> Iterator[tuple[Kind, str]]:
    method = facts.method.upper()
    if _is_in_advance(facts):
        yield "prefetch", "purpose_header"
    if method == "HEAD":
        yield "head", "method_head"
    elif method != "GET":
        yield "other_method", "method_other"
    if not any(map(str.isalnum, facts.user_agent or "")):
        yield "no_agent", "agent_missing"
    if app is not None:
        yield "preview", f"preview_{app}"
    if is_crawler:
        yield "crawler", "agent_listed"
    if not _is_document(facts):
        yield "subresource", "fetch_metadata"
    if _is_early(facts):
        yield "early", "before_acceptance"


@lru_cache(maxsize=_REMEMBERED)
def _agent(agent: str) -> tuple[str | None, bool]:
    """The app whose preview fetcher this is, else None; and whether it is a crawler or a library."""
    for app, pattern in _PREVIEWS:
        if pattern.search(agent):
            return app, False
    return None, any(word in agent for word in _WORDS) or _EXPRESSION.search(agent) is not None


def _is_foreign(app: str, medium: str | None) -> bool:
    """Whether an app's preview is none of the medium's own. Where the medium is not known, nobody can tell: no."""
    own = _OWN.get(medium or "")
    return own is not None and app not in own


def _is_in_advance(facts: ClickFacts) -> bool:
    """Whether a browser asks before anybody clicked: `prefetch;prerender`, `: preview` (Opera's), in any case."""
    headers = (facts.sec_purpose, facts.purpose, facts.x_moz, facts.x_purpose)
    return any(not _PURPOSES.isdisjoint(_PURPOSE_TOKEN.findall(header.lower())) for header in headers if header)


def _is_document(facts: ClickFacts) -> bool:
    """Whether a whole page is asked for, so far as the browser says.

    Frames and objects navigate too, so the destination decides; only where it is absent (Chrome 76 to 79, and what
    sends neither) does the mode.
    """
    if destinations := _items(facts.sec_fetch_dest):
        return destinations == {"document"}
    return _items(facts.sec_fetch_mode) <= {"navigate"}


def _is_early(facts: ClickFacts) -> bool:
    if facts.medium is None:
        return False
    return facts.accepted_by_provider_at is None or facts.at < facts.accepted_by_provider_at


def _opted_out(facts: ClickFacts) -> bool:
    return not _items(facts.sec_gpc).isdisjoint({"1", "?1", "true"})


def _items(header: str | None) -> set[str]:
    """The members of a list, without parameters, blanks, quotes and case; empty for a header that says nothing."""
    members = (member.partition(";")[0].strip(" \t\"'").lower() for member in (header or "").split(","))
    return {member for member in members if member}
