"""What can go wrong, as one tree.

PartylineError
├── NotTaken                an event was not taken; `answer_for` knows the HTTP answer to each
│   ├── BadSignature        not signed by the hub with a secret we know
│   ├── TooOld              signed, but not now: a recording, or a clock that is wrong
│   ├── Malformed           signed, but no event
│   ├── InProgress          the same event is being worked on right now
│   ├── Rejected            raised by you: this event cannot be taken; others can
│   ├── Later               raised by you: nothing can be taken just now
│   └── Gone                raised by you: send nothing more
└── HubError                a call to the hub did not succeed
    ├── Problem             the hub refuses, and says why: `status`, `code`, `detail`
    ├── Unreachable         no answer (also an OSError)
    └── Unreadable          an answer that is not the hub's
"""

from collections.abc import Mapping, Sequence
from typing import Any


class PartylineError(Exception):
    """Everything this package raises for what others did."""


class NotTaken(PartylineError):
    """An event was not taken. `status` is the HTTP status that tells the hub, `retry_after` seconds that go with it."""

    status: int = 500
    retry_after: float | None = None


class BadSignature(NotTaken):
    """Not signed by the hub with any secret we know. The text says what is wrong, and is no answer for a stranger."""

    status = 401


class TooOld(NotTaken):
    """The signature is right and its time is not: `age` in seconds, negative for the future.

    A recording that somebody plays again, or one of the two clocks is wrong. The hub signs every attempt anew.
    """

    status = 401

    def __init__(self, age: float) -> None:
        super().__init__(f"signed {abs(age):.0f} s {'ago' if age >= 0 else 'in the future'}: is the clock right?")
        self.age = age


class Malformed(NotTaken):
    """Not an event as the hub writes them."""

    status = 400


class InProgress(NotTaken):
    """The same event is being worked on: the hub gave up waiting and repeats it. 409 makes it ask again soon."""

    status = 409


class Rejected(NotTaken):
    """Raise it where this one event cannot be taken. Its conversation is set aside and tried again, others go on."""

    status = 422


class Later(NotTaken):
    """Raise it where nothing can be taken for so many seconds, such as without a database. Everything waits."""

    status = 503

    def __init__(self, detail: str = "", *, seconds: float = 5.0) -> None:
        super().__init__(detail)
        self.retry_after = seconds


class Gone(NotTaken):
    """Raise it where this endpoint wants no more events: the hub pauses the subscription until somebody resumes it."""

    status = 410


class HubError(PartylineError):
    """A call to the hub did not succeed."""


class Problem(HubError):
    """The hub's refusal, a problem document (RFC 9457): program against `status` and `code`, show people `detail`.

    `errors` has every fault of a body with its JSON pointer, `facts` what the code adds (docs/errors.md).
    `code` is `unknown` where something between us and the hub answered.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        facts: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.facts = dict(facts or {})
        self.retry_after = retry_after

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 429 or self.status >= 500


class Unreachable(HubError, OSError):
    """No answer. Whether the hub did it is not known: send the same again, replies with the same Idempotency-Key."""


class Unreadable(HubError):
    """An answer that the hub would not give: is this its URL?"""
