"""What somebody may see of an event or a message: one projection for every way out (rules C1, C2, C4, A9).

Webhooks, feed, live stream, timelines, message views, reports of links and the operator's views all end here, so what
is hidden in one is hidden in all of them. Masked, a message keeps what rule C1 names and loses everything else, what is
not invented yet included.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from hub.domain.ids import public_id

_VISIBLE: Final = (
    "id", "direction", "medium", "type", "author", "origin", "sequence", "status", "status_times", "created_at",
    "send_at", "conflict", "erased", "unrouted", "reconciled",
)  # fmt: skip
"""Not `segments`, which tells how long it is; nor `campaign`, `error`, `provider_id`."""
_FRAME: Final = ("event_id", "number", "channel_id", "conversation", "contact")
"""What stands around the message in an event."""
_LINK: Final = ("id", "message_id")
"""Of the link in an event: where it leads, what for and where in the message it stands is content."""
_CLICK: Final = ("id", "at", "verdict")
_REPORT: Final = (
    *_LINK, "medium", "created_at", "state", "disabled_at", "is_personal", "suspect", "clicks", "visits", "bound",
)  # fmt: skip
"""The same of a report of a link: numbers are no content."""

_PLAIN: Final = frozenset({*_FRAME, "message"})

_FOREIGN: Final = frozenset({"echo", "external"})
_PAYLOADS: Final = frozenset({"id", "payload", "response", "response_json"})


# Who may see content (C2) -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sharing:
    """What an author lets others see in full: `none`, `all`, or the services `named`."""

    mode: str = "none"
    services: Collection[UUID] = ()

    def includes(self, viewer: UUID) -> bool:
        """Whether the author shares with this service."""
        return self.mode == "all" or (self.mode == "named" and viewer in self.services)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a service asks to see, and what it shares, on one channel from a time on."""

    since: datetime
    display: str = "masked"
    sharing: Sharing = Sharing()


_NO_POLICY: Final = Policy(datetime.min.replace(tzinfo=UTC))


PolicyBook: TypeAlias = Mapping[tuple[UUID, UUID], Sequence[Policy]]
"""Policies by channel and service, each in the order they were made."""


def may_see_content(
    book: PolicyBook, channel_id: UUID, viewer: UUID | None, author: UUID | None, written_at: datetime
) -> bool:
    """Whether content on a channel is shown in full: both sides must want it, when it was written and now (C2).

    What has no author came from the customer, or past the hub, and is never masked. A viewer that is no service (None)
    is a stranger to all.
    """
    if author is None or author == viewer:
        return True
    if viewer is None:
        return False
    asked, shared = book.get((channel_id, viewer), ()), book.get((channel_id, author), ())
    then = _agree(viewer, _policy_at(asked, written_at), _policy_at(shared, written_at))
    return then and _agree(viewer, _last(asked), _last(shared))


def _agree(viewer: UUID, asked: Policy, shared: Policy) -> bool:
    return asked.display == "full" and shared.sharing.includes(viewer)


def _policy_at(history: Sequence[Policy], moment: datetime) -> Policy:
    return next((policy for policy in reversed(history) if policy.since <= moment), _NO_POLICY)


def _last(history: Sequence[Policy]) -> Policy:
    return history[-1] if history else _NO_POLICY


# What is left (C1) --------------------------------------------------------------------------------------------------


def project_message(
    message: Mapping[str, Any], *, viewer: UUID | None, is_full: bool, asked_by: str | None = None
) -> dict[str, Any]:
    """A message as one viewer sees it; masked, only what rule C1 names is left. Not masked, an agent of another service
    is named all the same, and no more: ids of agents are no content.

    `asked_by` is the service (`svc_...`) whose buttons the customer tapped, where the hub knows it: the ids it gave
    them are for it alone.
    """
    if not is_full:
        return _masked(message)
    is_asker = asked_by is None or asked_by == _name(viewer)
    view = dict(message) if is_asker else _without_payloads(message)
    author = message.get("author")
    if author and author.get("service_id") != _name(viewer) and "agent" in view:
        view["agent"] = _agent_name(view["agent"])
    return view


def project_event(data: Mapping[str, Any], *, viewer: UUID | None, is_full: bool) -> dict[str, Any]:
    """An event's data for one viewer; None is the operator, who is a stranger to every service.

    `private` in the data is a list of `private_to`: fields that only some services get, merged into the rest. Agents
    keep their ids for their own service only. That a link was clicked is no content, where it leads is.
    """
    view = dict(data) if is_full else _masked_event(data)
    asked_by, private = view.pop("answered_service_id", None), view.pop("private", ())
    message, conversation = data.get("message"), data.get("conversation")
    if not view.keys() <= _PLAIN:
        view |= _without_agent_ids({name: view[name] for name in view if name not in _PLAIN}, _name(viewer))
    if message is not None:
        view["message"] = project_message(message, viewer=viewer, is_full=is_full, asked_by=asked_by)
    if conversation is not None and conversation.get("picked_up_by"):
        holder = project_holder(conversation["picked_up_by"], viewer)
        view["conversation"] = {**conversation, "picked_up_by": holder}
    for part in private:
        if _name(viewer) in part["to"]:
            view = _merge(view, part["fields"])
    return view


def project_link(report: Mapping[str, Any], *, is_full: bool) -> dict[str, Any]:
    """The report of a link as one viewer sees it; masked, nobody can tell where it leads."""
    return dict(report) if is_full else {**_kept(report, _REPORT), "masked": True}


def reveal_event(data: Mapping[str, Any]) -> dict[str, Any]:
    """An event's data with all there is, for an operator who said why."""
    view = {name: value for name, value in data.items() if name not in {"answered_service_id", "private"}}
    for part in data.get("private", ()):
        view = _merge(view, part["fields"])
    return view


def private_to(services: Collection[UUID], **fields: Any) -> dict[str, Any]:
    """An entry of `private`: fields of an event's data that only these services see, such as a note."""
    return {"to": [public_id("svc", service) for service in services], "fields": fields}


def project_holder(holder: Mapping[str, Any], viewer: UUID | None) -> dict[str, Any]:
    """Who holds a conversation, as one viewer sees it: an agent's id is their own service's affair, the name is not."""
    view: dict[str, Any] = _without_agent_ids(holder, _name(viewer))
    return view


def automation(data: Mapping[str, Any], *, may_automate: bool, epoch: int) -> dict[str, Any]:
    """Whether the receiver's bots may speak now (A9); never to what the business itself wrote past the hub, nor while
    Meta's own agent holds the conversation. That it was given back is told by the provider, and to be answered.
    """
    message, conversation = data.get("message") or {}, data.get("conversation") or {}
    is_foreign = message.get("origin") in _FOREIGN and message.get("type") != "handover"
    is_held = conversation.get("held_by") is not None
    return {"allowed": may_automate and not is_foreign and not is_held, "parent_epoch": epoch}


def _name(viewer: UUID | None) -> str | None:
    return public_id("svc", viewer) if viewer else None


def _masked_event(data: Mapping[str, Any]) -> dict[str, Any]:
    view = _kept(data, _FRAME)
    if "click" in data:
        view |= {"link": _kept(data.get("link"), _LINK), "click": _kept(data["click"], _CLICK)}
    return view


def _kept(value: Any, names: Collection[str]) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value} if isinstance(value, Mapping) else {}


def _masked(message: Mapping[str, Any]) -> dict[str, Any]:
    visible = _kept(message, _VISIBLE)
    if agent := _agent_name(message.get("agent")):
        visible["agent"] = agent
    visible["masked"] = True
    return visible


def _agent_name(agent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"name": agent.get("name")} if agent else None


def _without_agent_ids(value: Any, own: str | None, owner: str | None = None) -> Any:
    """A value in which agents are only named, but for those of `own`: an agent is of the service it stands beside."""
    if isinstance(value, list):
        return [_without_agent_ids(inner, own, owner) for inner in value]
    if not isinstance(value, Mapping):
        return value
    beside = value.get("service") or value.get("from")
    owner = beside.get("id") if isinstance(beside, Mapping) else owner
    view = {name: _without_agent_ids(inner, own, owner) for name, inner in value.items()}
    if isinstance(value.get("agent"), Mapping) and (own is None or owner != own):
        view["agent"] = _agent_name(value["agent"])
    return view


def _merge(view: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields put into a view, objects into objects."""
    merged = dict(view)
    for name, value in fields.items():
        known = merged.get(name)
        both_are_objects = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(known or {}, value) if both_are_objects else value
    return merged


def _without_payloads(message: Mapping[str, Any]) -> dict[str, Any]:
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
