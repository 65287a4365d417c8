"""Deliveries to all services, as the operator sees them (rule G3)."""

from hub.http.answers.base import Page, Phone
from hub.http.answers.deliveries import Attempt, DeadLetter, Parked
from hub.http.answers.people import Named


class AnyAttempt(Attempt):
    """An attempt to deliver an event to a service."""

    service: Named
    number: Phone


class AnyParked(Parked):
    """A conversation whose deliveries to a service wait."""

    service: Named


class AnyDeadLetter(DeadLetter):
    """An event that was given up for a service."""

    service: Named


class AnyAttempts(Page[AnyAttempt]):
    """Attempts, newest first. A page may be short, even empty, and yet have a next one."""


class AnyParkedPage(Page[AnyParked]):
    """What waits, by conversation."""


class AnyDeadLetters(Page[AnyDeadLetter]):
    """Dead letters by age."""
