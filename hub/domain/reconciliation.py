"""Which part of a provider's list of messages is compared with ours (rule B3)."""

from datetime import datetime, timedelta
from typing import Final

GRACE: Final = timedelta(seconds=5)
"""What is younger is left out: its webhook may be on its way, and is not to be overtaken."""
OVERLAP: Final = timedelta(minutes=10)
"""How far before the last comparison the next one begins: providers' lists and clocks lag."""


def span(begun_at: datetime, until: datetime, now: datetime, lookback: timedelta) -> tuple[datetime, datetime]:
    """From when to when to ask, where all up to `until` was compared; never before this began, nor further back than
    `lookback`.
    """
    since = max(begun_at, until - OVERLAP, now - lookback)
    return since, max(now - GRACE, since)
