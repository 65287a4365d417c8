"""What trackers of sites are told."""

from hub.http.answers.base import Strict


class Handle(Strict):
    """A handle of the visitor, good once; null without consent."""

    handle: str | None
