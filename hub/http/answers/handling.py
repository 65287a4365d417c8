"""Who handles a conversation, as answers tell it (rules D1 to D4)."""

from typing import Literal

from hub.http.answers.base import MessageId, Strict, Time
from hub.http.answers.people import Holder, Presence, Waiting, Warned


class PickedUp(Strict):
    """Who holds the conversation for this service now, and who else is at it."""

    picked_up_by: Holder
    warnings: list[Warned]


class Released(Strict):
    """Whether there was something to release, and who holds the conversation still."""

    released: bool
    picked_up_by: Holder | None


class Present(Strict):
    """What was noted, until when, and who else is there."""

    state: Literal["viewing", "typing", "left"]
    expires_at: Time | None
    presence: list[Presence]


class Passed(Strict):
    """For whom the conversation waits now."""

    waiting_for: Waiting | None


class Marked(Strict):
    """Which message was marked as read at the provider."""

    message_id: MessageId
    typing: bool
