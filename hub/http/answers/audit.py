"""Who did what (rule A8)."""

from typing import Any

from pydantic import Field

from hub.http.answers.base import ChannelId, Page, Strict, Time


class AuditEntry(Strict):
    """Something that somebody did."""

    id: str
    at: Time
    actor: str = Field(description="`operator`, a service's id, or `hub`.")
    action: str = Field(description="What was done, as `number.changed`.")
    subject: str | None = Field(description="What it was done to: an id, or a number.")
    channel_id: ChannelId | None
    details: dict[str, Any] = Field(description="As the action has it.")


class AuditTrail(Page[AuditEntry]):
    """Part of the trail. It may be short, even empty, and yet have a next one."""
