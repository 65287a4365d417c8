"""When to ask again: only what may be asked twice, and never sooner than the hub says."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from partyline_client.errors import HubError, Problem, Unreachable
from partyline_client.request import Request

_BUSY: Final = {429, 502, 503, 504}
"""Too many requests, or nobody behind the proxy: the same request may succeed in a moment."""


@dataclass(frozen=True, slots=True)
class Retries:
    """`times` a call is tried again: where there was no answer, or 429, 502, 503 or 504.

    That is only done with calls which change nothing when they are done twice: GET, PUT, DELETE, and whatever carries
    an `Idempotency-Key`. Pauses begin with about `first` seconds, double, and are never shorter than `Retry-After`.
    Where one would be over `longest` seconds, the error is raised at once: that is no hiccup, and yours to deal with.
    """

    times: int = 3
    first: float = 0.25
    longest: float = 10.0
    chance: Callable[[], float] = random.random

    def pause(self, request: Request[Any], error: HubError, tried: int) -> float | None:
        """Seconds to wait after this error, before trying for another time; None: do not. `tried` counts from 0."""
        if tried >= self.times or not request.may_be_repeated:
            return None
        match error:
            case Unreachable():
                asked = 0.0
            case Problem() if error.status in _BUSY:
                asked = error.retry_after or 0.0
            case _:
                return None
        spread = 0.5 + self.chance() / 2  # so that many who were refused at once do not come back at once
        seconds = asked + self.first * 2**tried * spread
        return seconds if asked <= self.longest else None


NEVER: Final = Retries(times=0)
"""Every call once."""
