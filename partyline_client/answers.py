"""The HTTP answer to a webhook: it tells the hub whether to go on, set aside, wait or stop.

2xx                 the work is done. The conversation's next event comes.
4xx                 this event cannot be taken. Its conversation is set aside and tried again, ever later; the
                    others go on. After about three days the event becomes a dead letter.
5xx, or no answer   the same, until several conversations in a row fail: then the service is ill. Everything waits,
                    no event is given up, and one is tried now and then.
503 + Retry-After   the service says itself that it is ill: everything waits, at least so long.
410                 send nothing more. The subscription is paused, and the operator is told.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from partyline_client.errors import NotTaken, Problem


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer the hub; it needs no body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


DONE: Final = Answer(200)
"""The work is done and safe. Never answer it earlier: the hub will not send the event again."""


def answer_for(error: Exception | None) -> Answer:
    """The answer for what came of an event: `DONE` for None.

    What this package raises has its own status. An OSError (a broken connection, a time-out, a hub that is down) is
    503, anything else 500. To say whose fault it is, raise `Rejected` (the event's) or `Later` (ours).
    """
    match error:
        case None:
            return DONE
        case NotTaken():
            return _answer(error.status, error.retry_after)
        case Problem(is_temporary=True):
            return _answer(503, error.retry_after)
        case OSError():
            return _answer(503, None)
        case _:
            return Answer(500)


def _answer(status: int, retry_after: float | None) -> Answer:
    return Answer(status, {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))})
