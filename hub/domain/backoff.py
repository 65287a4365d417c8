"""When to try again."""

import random
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DELIVERY_SCHEDULE: Final = (
    5.0, 30.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Seconds to wait after the first, second, ... failed attempt of one conversation's delivery: about three days."""
SEND_SCHEDULE: Final = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Seconds to wait before handing a message to the provider again that it certainly did not take (rule E8)."""
JITTER: Final = 0.2


def delay(schedule: tuple[float, ...], attempts: int, random_: random.Random) -> float | None:
    """Seconds until the next attempt after `attempts` failed ones, give or take a fifth; None: give up."""
    if attempts > len(schedule):
        return None
    return schedule[attempts - 1] * random_.uniform(1 - JITTER, 1 + JITTER)
