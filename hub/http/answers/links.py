"""Tracked links that were made by themselves, as answers tell of them (rule F)."""

from hub.http.answers.base import LinkId, Strict, Time


class MadeLink(Strict):
    """A link, and its short URL, which is told this once."""

    id: LinkId
    url: str
    target: str
    personal: bool
    identifies_until: Time | None
    redirects_until: Time


class MadeLinks(Strict):
    """Many of them, in the order they were asked for."""

    links: list[MadeLink]
