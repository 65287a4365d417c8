"""What providers' lists were compared with what came by webhook (rule B3)."""

from typing import Literal

from pydantic import Field

from hub.http.answers.base import Strict, Time


class ListState(Strict):
    """How far one provider's list was compared, and how the last round went."""

    provider: str
    begun_at: Time
    until: Time = Field(description="All that customers wrote between `begun_at` and then is here.")
    tried_at: Time | None
    outcome: Literal["done", "waiting", "not_configured", "provider_unavailable", "unavailable", "failed"] | None
    detail: str | None
    listed: int | None = Field(description="What the provider told in the last round that was `done`.")
    taken: int | None = Field(description="What of it no webhook had brought.")


class ReconciliationState(Strict):
    """Every provider that has a list."""

    providers: list[ListState]


class ListCompared(Strict):
    """A round that was just made."""

    provider: str
    outcome: Literal["done", "not_configured"]
    since: Time | None
    until: Time | None
    listed: int
    taken: int


class Reconciled(Strict):
    """The rounds that were just made."""

    providers: list[ListCompared]
