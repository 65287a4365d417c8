"""Which statuses follow a send, in which order and when."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class StatusPlan:
    """The statuses reported of one message, `delay` seconds apart; with `before_answer` ahead of the API's answer.

    Steps are `sent`, `delivered`, `read`, `failed` (with `error_code`, or the provider's usual one), or any other of
    the provider's words. SMS knows no `read`: that step is left out there.
    """

    steps: tuple[str, ...] = ("sent", "delivered", "read")
    delay: float = 0.0
    before_answer: bool = False
    error_code: int | None = None

    @classmethod
    def none(cls) -> Self:
        """Nothing is reported."""
        return cls(())

    @classmethod
    def delayed(cls, seconds: float) -> Self:
        """The usual, each so much later."""
        return cls(delay=seconds)

    @classmethod
    def early(cls) -> Self:
        """The usual, before the hub can know the provider's id."""
        return cls(before_answer=True)

    @classmethod
    def reordered(cls) -> Self:
        """The usual, backwards."""
        return cls(("read", "delivered", "sent"))

    @classmethod
    def duplicated(cls) -> Self:
        """Each twice."""
        return cls(("sent", "sent", "delivered", "delivered", "read", "read"))

    @classmethod
    def contradictory(cls) -> Self:
        """Delivered, then failed."""
        return cls(("sent", "delivered", "failed"))

    @classmethod
    def failing(cls, error_code: int | None = None) -> Self:
        """Accepted, then failed."""
        return cls(("failed",), error_code=error_code)
