"""The reply window of WhatsApp: free-form messages only within 24 hours of the customer's last (rule E4)."""

from datetime import datetime, timedelta
from typing import Final

REPLY_WINDOW: Final = timedelta(hours=24)
MARGIN: Final = timedelta(seconds=60)
"""Kept free at the end, so that a message accepted in time does not reach Meta too late."""


def expires_at(medium: str, last_customer_at: datetime | None) -> datetime | None:
    """When the window closes; None where none is open yet, and for SMS, which has none."""
    if medium != "whatsapp" or last_customer_at is None:
        return None
    return last_customer_at + REPLY_WINDOW


def is_open(medium: str, last_customer_at: datetime | None, now: datetime) -> bool:
    """Whether one may write freely at `now`."""
    if medium != "whatsapp":
        return True
    closes = expires_at(medium, last_customer_at)
    return closes is not None and now < closes - MARGIN
