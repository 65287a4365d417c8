"""Everything the hub refuses, as one tree; each leaf has a stable `code` and an HTTP status.

::

    Refusal
     |- Invalid            422  invalid_request (all faults of a body at once), and finer codes
     |- Unauthorized       401  unauthorized
     |- Forbidden          403  missing_scope, operator_only
     |- NotFound           404  not_found
     |- Conflict           409  not_parent, no_consent, reply_window_closed, number_shared ...
     |- Gone               410  media_unavailable
     |- TooLarge           413  too_large
     |- TooMany            429  looks_automated: wait as long as `retry_after` says
     |- Unavailable        503  unavailable: nothing was stored, try again
     `- NotYet             503  media_pending: try again when `retry_after` says
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: `pointer` is a JSON pointer into its body."""

    pointer: str
    code: str
    detail: str


class Refusal(Exception):
    """A request that is not carried out. `detail` is for people; `facts` are added to the problem document."""

    status = 400
    code = "bad_request"

    def __init__(self, detail: str, *, code: str | None = None, errors: Sequence[Fault] = (), **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.errors = tuple(errors)
        self.facts = facts


class Invalid(Refusal):
    """The request does not say what it must."""

    status = 422
    code = "invalid_request"


class Unauthorized(Refusal):
    """No valid API key."""

    status = 401
    code = "unauthorized"


class Forbidden(Refusal):
    """A valid key that may not do this."""

    status = 403
    code = "forbidden"


class NotFound(Refusal):
    """Nothing here under this name, or nothing that this key may see."""

    status = 404
    code = "not_found"


class Conflict(Refusal):
    """The rules, or the state of things, are against it."""

    status = 409
    code = "conflict"


class Gone(Refusal):
    """The file is not there any more, or never came."""

    status = 410
    code = "media_unavailable"


class TooLarge(Refusal):
    """The body is over the limit."""

    status = 413
    code = "too_large"


class TooMany(Refusal):
    """More than people can do; the fact `retry_after` tells after how many seconds to try again."""

    status = 429
    code = "looks_automated"


class Unavailable(Refusal):
    """The database cannot take it now; nothing was stored."""

    status = 503
    code = "unavailable"


class NotYet(Refusal):
    """The file is on its way; the fact `retry_after` tells after how many seconds to try again."""

    status = 503
    code = "media_pending"
