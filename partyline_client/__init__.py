"""Partyline for receivers: verify what the hub posts, drop repeats, see gaps, answer, reply.

Needs the standard library and `standardwebhooks`, does no I/O but in `Hub`, and fits any web framework:

    receiver = Receiver(secrets=["whsec_..."])
    seen, sequences = Seen(), Sequences()

    def webhook(body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            event = receiver.receive(body, headers)
            with seen.handling(event.id) as is_new:
                if is_new:
                    if missing := sequences.observe(event).missing:
                        print(f"{event.conversation_id}: {missing} never came")
                    work_on(event)
        except Exception as error:
            return answer_for(error)
        return DONE
"""

from partyline_client.answers import DONE, Answer, answer_for
from partyline_client.calls import Page
from partyline_client.errors import (
    BadSignature,
    Gone,
    HubError,
    InProgress,
    Later,
    Malformed,
    NotTaken,
    PartylineError,
    Problem,
    Rejected,
    TooOld,
    Unreachable,
    Unreadable,
)
from partyline_client.events import Event, Expired, Presence
from partyline_client.hub import Hub
from partyline_client.receiver import Receiver
from partyline_client.seen import Memory, Seen
from partyline_client.sequences import Missing, Observation, Place, Sequences
from partyline_client.stream import EventStream, StreamEvent

__all__ = [
    "DONE",
    "Answer",
    "BadSignature",
    "Event",
    "EventStream",
    "Expired",
    "Gone",
    "Hub",
    "HubError",
    "InProgress",
    "Later",
    "Malformed",
    "Memory",
    "Missing",
    "NotTaken",
    "Observation",
    "Page",
    "PartylineError",
    "Place",
    "Presence",
    "Problem",
    "Receiver",
    "Rejected",
    "Seen",
    "Sequences",
    "StreamEvent",
    "TooOld",
    "Unreachable",
    "Unreadable",
    "answer_for",
]
