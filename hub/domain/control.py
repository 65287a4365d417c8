"""Who holds a conversation: this business, or Meta's own agent, by what was last heard of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Holder = Literal["hub", "external"]


@dataclass(frozen=True, slots=True)
class Control:
    """Who holds a conversation (`held_by` is `external`, or None: it is ours), since when, and of what time the last
    news of it is.
    """

    held_by: str | None = None
    since: datetime | None = None
    at: datetime | None = None


def heard(
    control: Control, holder: Holder, at: datetime | None, now: datetime, *, is_inferred: bool = False
) -> Control:
    """What holds after news of the provider's time `at`: the later news win, those of one second (providers count no
    finer) as they come, older ones change nothing. News without a time, or from the future, are of now.

    That it is ours `is_inferred` where the customer merely wrote to us: what they wrote in the second in which it was
    handed over they wrote before, whichever comes first.
    """
    time = min(at, now) if at else now
    if control.at is not None and (time < control.at or (is_inferred and holder == "hub" and time == control.at)):
        return control
    held_by = None if holder == "hub" else holder
    if held_by == control.held_by:
        return Control(control.held_by, control.since, time)
    return Control(held_by, time if held_by else None, time)
