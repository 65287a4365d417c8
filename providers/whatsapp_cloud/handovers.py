"""From the field `messaging_handovers` to an item: who holds a conversation, Meta's own agent or this business."""

from typing import Any, Final, Literal

from providers.base import ControlChanged, Item
from providers.whatsapp_cloud.batch import Change
from providers.whatsapp_cloud.people import SUBJECT, customer_of
from providers.whatsapp_cloud.values import as_dict, moment, text_of

Holder = Literal["hub", "external"]

_PASSED: Final = frozenset({"control_passed", "pass_thread_control"})
_TAKEN: Final = frozenset({"control_taken", "take_thread_control"})
_ASKED: Final = frozenset({"control_requested", "request_thread_control", "app_roles"})
_AGENT: Final = ("agent", "mba")
"""What the roles of Meta's own agent are called: `meta_business_agent`, `ai_agent`."""


def read_handover(handover: dict[str, Any], change: Change, is_cleaned: bool, name: str = "") -> Item:
    """Control was passed to this app or taken from it. A request, or new roles of apps, changes no hands: it is noted.
    """  # fmt: skip
    kind = _kind_of(handover)
    if kind in _ASKED:
        return change.unparsed("not_needed", kind, name, handover, is_note=True)
    if kind not in _PASSED | _TAKEN:
        return change.unparsed("unhandled_field", change.field, name, handover)
    body = as_dict(handover.get(kind))
    sender = as_dict(handover.get("sender"))
    told = {
        "wa_id": sender.get("phone_number") or sender.get("wa_id") or sender.get("id"),
        "user_id": sender.get("user_id"),
        "parent_user_id": sender.get("parent_user_id"),
    }
    return ControlChanged(
        key=change.item_key(handover),
        sender=change.sender,
        customer=customer_of(told, SUBJECT, change.contacts),
        at=moment(handover.get("timestamp")),
        holder=_holder(kind, body),
        content={"handover": {"type": kind} | body},
        cleaned=is_cleaned,
    )


def read_handover_item(handover: dict[str, Any], change: Change, is_cleaned: bool) -> Item:
    """The same, as an element of a list."""
    return read_handover(handover, change, is_cleaned, "messaging_handovers")


def _kind_of(handover: dict[str, Any]) -> str:
    named = (text_of(handover.get("type")) or "").lower()
    return named or next((name for name in handover if name in _PASSED | _TAKEN | _ASKED), "")


def _holder(kind: str, body: dict[str, Any]) -> Holder:
    """Whose it is now: as the new owner's role says; else not that of the agent who had it; else passed is to us, and
    taken is from us.
    """
    if new := _role(body, "new_owner"):
        return "external" if _is_agent(new) else "hub"
    if (previous := _role(body, "previous_owner")) and _is_agent(previous):
        return "hub"
    return "hub" if kind in _PASSED else "external"


def _role(body: dict[str, Any], owner: str) -> str | None:
    nested = as_dict(body.get(owner))
    told = [body.get(f"{owner}_role"), body.get(f"{owner}_app_role"), nested.get("app_role"), nested.get("role")]
    return next((role for value in told if (role := text_of(value))), None)


def _is_agent(role: str) -> bool:
    return any(word in role.lower().split("_") for word in _AGENT)
