"""When providers' callbacks are silent: nothing comes where, as usual, much should have come."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from statistics import median_low
from typing import Final

HOUR: Final = timedelta(hours=1)
LOOKBACK: Final = timedelta(hours=2)
"""How old messages may be that are looked at for statuses."""
ANSWERED_BY: Final = timedelta(minutes=15)
"""How long after a message was handed over its first status must have come."""
LEAST_SENT: Final = 5
"""How many messages without any status are no chance."""
KEPT: Final = timedelta(days=21)
"""How far back traffic is known."""
IMPROBABLE: Final = 1e-4
_LONGEST: Final = 24
"""Hours that are looked at for silence."""
_SAME_WEEKDAY: Final = 2
_ANY_DAY: Final = 3
"""Days of the past that are needed: of the same day of the week, or else of any."""

Traffic = Mapping[datetime, int | None]
"""Messages of customers by the hour, in UTC; None where the hub was not there to count them."""


def statuses_silent(handed: int, answered: int, since: datetime | None) -> str | None:
    """What to say where messages were handed over long enough ago and no status came for any; `since`: the first."""
    if handed < LEAST_SENT or answered or since is None:
        return None
    return (
        f"No status callbacks since {since:%Y-%m-%d %H:%M} UTC: the provider took {handed} messages and reported on"
        " none of them. Check that its webhooks come to this hub (partyline check)."
    )


def inbound_silent(traffic: Traffic, last: datetime, lately: int) -> str | None:
    """What to say where far fewer messages came than usual in the hours up to `last`, the last full one.

    `lately`: how many came since. Whatever came in the last full hour or since ends the silence.
    """
    if lately or traffic.get(last):
        return None
    expected, seen = 0.0, 0
    for back in range(_LONGEST):
        hour = last - back * HOUR
        came, usual = traffic.get(hour), usual_in(traffic, hour)
        if came is None or usual is None:
            return None
        expected, seen = expected + usual, seen + came
        if at_most(seen, expected) < IMPROBABLE:
            return (
                f"{seen or 'No'} messages of customers since {hour:%Y-%m-%d %H:%M} UTC, where about {expected:.0f} are"
                " usual. Check that the provider's webhooks come to this hub (partyline check)."
            )
    return None


def usual_in(traffic: Traffic, hour: datetime) -> float | None:
    """How many usually come in such an hour: as on the same day of the week, of two weeks the quieter, of three the
    middle one (the answers to one campaign are not usual); else as on the quietest of three days or more. None: not
    known yet.
    """
    past = {days: came for days in range(1, KEPT.days + 1) if (came := traffic.get(hour - days * timedelta(days=1)))
            is not None}  # fmt: skip
    alike = [came for days, came in past.items() if days % 7 == 0]
    if len(alike) >= _SAME_WEEKDAY:
        return float(median_low(alike))
    return float(min(past.values())) if len(past) >= _ANY_DAY else None


def at_most(seen: int, expected: float) -> float:
    """The probability (Poisson) that no more than this come where so many are expected."""
    if expected <= 0:
        return 1.0
    terms = (math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(seen + 1))
    return min(1.0, math.fsum(terms))
