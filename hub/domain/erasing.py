"""What is left of a customer who is erased (rule H5): ids, places in the order of things, and refusals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.consent import ConsentEvent, Kind, fold
from hub.domain.ids import public_id

CONTENT: Final = '{"erased":true}'
"""What a message's content is overwritten with: every view of it says so."""

_MESSAGE: Final = (
    "id", "conversation_id", "direction", "medium", "type", "origin", "author", "sequence", "status", "status_times",
    "created_at",
)  # fmt: skip
_FRAME: Final = ("number", "channel_id", "conversation")

Refusal = tuple[Kind, int | None]
"""What the customer does not want, and on which number; None: on all."""


def contact_view(contact_id: UUID) -> dict[str, Any]:
    """An erased contact as events show it."""
    return {"id": public_id("con", contact_id), "name": None, "addresses": [], "erased": True}


def erase_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it was shown: where it stood, and nothing of what it said."""
    return {name: message[name] for name in _MESSAGE if name in message} | {"erased": True}


def erase_event(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of an event in the log."""
    view: dict[str, Any] = {name: data[name] for name in _FRAME if name in data}
    if isinstance(contact := data.get("contact"), Mapping) and "id" in contact:
        view["contact"] = {"id": contact["id"], "name": None, "addresses": [], "erased": True}
    if isinstance(message := data.get("message"), Mapping):
        view["message"] = erase_message(message)
    return view | {"erased": True}


def erase_answer(answer: Any) -> dict[str, Any]:
    """The answer that is kept for a repeated request."""
    message = answer.get("message") if isinstance(answer, Mapping) else None
    if not isinstance(message, Mapping):
        return {"erased": True}
    return {"message": erase_message(message), "warnings": [], "erased": True}


def refusals(events: Sequence[ConsentEvent]) -> list[Refusal]:
    """A ledger that holds nothing but what this one refuses: whoever is erased is not written to again.

    A STOP is kept with the numbers on which START lifted it, a revocation and a marketing stop where they hold, and
    that a number was given up, until somebody writes from it. Where
    all but some numbers are refused otherwise, all are: that errs on the customer's side.
    """
    numbers = sorted({event.number_id for event in events if event.number_id is not None})
    given_up = [event for event in events if event.kind not in {"stop", "revoked"}]
    stops = [event for event in events if event.kind not in {"revoked", "replaced"}]
    notes = [event for event in events if event.kind not in {"stop", "start", "replaced"}]
    kept: list[Refusal] = []
    if fold(stops, None).is_revoked:
        kept.append(("stop", None))
        kept += [("start", number) for number in numbers if not fold(stops, number).is_revoked]
    kept += _where("revoked", [number for number in (None, *numbers) if fold(notes, number).is_revoked])
    kept += _where("replaced", [number for number in (None, *numbers) if fold(given_up, number).is_revoked])
    marketing = [number for number in (None, *numbers) if fold(events, number).is_marketing_stopped]
    return kept + _where("marketing_stop", marketing)


def _where(kind: Kind, numbers: Sequence[int | None]) -> list[Refusal]:
    return [(kind, None)] if None in numbers else [(kind, number) for number in numbers]


def traces(addresses: Iterable[Address]) -> list[str]:
    """How addresses are spelt in raw bytes of providers, in JSON and in forms, and in what the hub wrote itself."""
    found: set[str] = set()
    for address in addresses:
        if address.type == "phone":
            found |= {address.value[1:], address.match_key[1:]}
        elif address.type in {"user_id", "parent_user_id", "email"}:
            found |= {address.value, quote(address.value, safe="")}
    return sorted(found)
