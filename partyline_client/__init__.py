"""Partyline for the services on a shared number: verify what the hub posts, drop repeats, see gaps, reply, follow.

The core needs the standard library and `standardwebhooks`, and fits any web framework. `partyline_client.aiohttp` has
`AsyncHub` and an adapter, `partyline_client.asgi` an adapter for ASGI. In a synchronous application:

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
from partyline_client.following import follow_feed, follow_stream
from partyline_client.hub import Hub
from partyline_client.receiver import Receiver
from partyline_client.request import Items, Page, Request, read_answer
from partyline_client.retries import NEVER, Retries
from partyline_client.seen import Memory, Seen
from partyline_client.sequences import Missing, Observation, Place, Sequences
from partyline_client.store import Store
from partyline_client.stream import EventStream, StreamEvent

__all__ = [
    "DONE",
    "NEVER",
    "Answer",
    "BadSignature",
    "Event",
    "EventStream",
    "Expired",
    "Gone",
    "Hub",
    "HubError",
    "InProgress",
    "Items",
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
    "Request",
    "Retries",
    "Seen",
    "Sequences",
    "Store",
    "StreamEvent",
    "TooOld",
    "Unreachable",
    "Unreadable",
    "answer_for",
    "follow_feed",
    "follow_stream",
    "read_answer",
]
