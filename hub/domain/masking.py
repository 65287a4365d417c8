"""What a service may see of an event: one projection for every way out (rules C1, C2, A9)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from hub.domain.ids import public_id

_VISIBLE: Final = ("id", "direction", "medium", "type", "author", "origin", "sequence", "status", "status_times",
                   "created_at", "conflict", "erased", "unrouted", "reconciled")  # fmt: skip

_FOREIGN: Final = frozenset({"echo", "external"})
_PAYLOADS: Final = frozenset({"id", "payload", "response", "response_json"})


@dataclass(frozen=True, slots=True)
class Sharing:
    """What an author lets others see in full: `none`, `all`, or the services named."""

    mode: str = "none"
    services: Collection[UUID] = ()

    def includes(self, viewer: UUID) -> bool:
        """Whether the author shares with this service."""
        return self.mode == "all" or (self.mode == "named" and viewer in self.services)


def may_see_content(viewer: UUID, display: str, author: UUID | None, sharing: Sharing) -> bool:
    """Whether content is shown in full. What comes from the customer has no author and is never masked."""
    if author is None or author == viewer:
        return True
    return display == "full" and sharing.includes(viewer)


def project_message(message: Mapping[str, Any], *, is_full: bool) -> dict[str, Any]:
    """A message as one viewer sees it; masked, only what rule C1 names is left."""
    if is_full:
        return dict(message)
    visible: dict[str, Any] = {name: message[name] for name in _VISIBLE if name in message}
    agent = message.get("agent")
    if agent:
        visible["agent"] = {"name": agent.get("name")}
    visible["masked"] = True
    return visible


def project_event(
    data: Mapping[str, Any], *, event_id: str, viewer: UUID, is_full: bool, may_automate: bool, epoch: int
) -> dict[str, Any]:
    """An event's data for one receiver; `may_automate` and `epoch` tell it whether its bots may speak now (A9).

    Payloads of tapped buttons belong to the service that sent the buttons (C1), where the hub knows which did.
    """
    view: dict[str, Any] = {"event_id": event_id, **data}
    message = data.get("message")
    if "channel_id" in data:
        is_foreign = message is not None and message.get("origin") in _FOREIGN
        view["automation"] = {"allowed": may_automate and not is_foreign, "parent_epoch": epoch}
    asked_by = view.pop("answered_service_id", None)
    if message is not None:
        view["message"] = project_message(message, is_full=is_full)
        if asked_by is not None and asked_by != public_id("svc", viewer):
            view["message"] = without_payloads(view["message"])
    return view


def without_payloads(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without the ids that the author of its buttons gave them; titles stay."""
    visible = dict(message)
    for name in ("button", "interactive"):
        if isinstance(visible.get(name), Mapping):
            visible[name] = _strip(visible[name])
    return visible


def _strip(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _strip(inner) if isinstance(inner, Mapping) else inner
        for key, inner in value.items()
        if key not in _PAYLOADS
    }
