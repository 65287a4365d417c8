"""What could not be taken in, and what became of it when it was tried again (rule B5)."""

from typing import Literal

from pydantic import Field

from hub.http.answers.base import Page, Strict, Time


class QuarantineEntry(Strict):
    """A webhook, or an item of one, that could not be taken in."""

    id: str
    provider: str
    path: str = Field(description="Where it was posted to.")
    content_type: str | None
    reason: str = Field(description="Why, as a stable word.")
    detail: str
    state: Literal["open", "noted", "replayed"] = Field(
        description="`noted`: nothing was lost by it, and there is nothing to do."
    )
    times: int = Field(description="How often the same came.")
    received_at: Time
    last_received_at: Time
    replayed_at: Time | None
    raw: str = Field(description="Its bytes, in base64.")


class Replayed(Strict):
    """What taking in one entry brought."""

    taken: int = Field(description="Items that are new.")
    duplicates: int = Field(description="Items that were here already.")


class ManyReplayed(Strict):
    """What taking in many entries brought."""

    replayed: int = Field(description="Entries that were taken in.")
    taken: int = Field(description="New items in them.")
    duplicates: int = Field(description="Items that were here already.")
    still_quarantined: int = Field(description="Entries that still cannot be taken in.")
    reasons: dict[str, int] = Field(description="Why entries stayed: how many for each reason.")
    skipped: list[str] = Field(description="Those of `ids` that are not open.")
    next: str | None = Field(description="The `after` of the next call; null when there is nothing more.")


class QuarantineEntries(Page[QuarantineEntry]):
    """What could not be taken in, by age."""
