"""Every call of the adapter API (docs/api.md), as a request without I/O. `Hub` and `AsyncHub` have them as methods.

Times are `datetime`s with an offset, or texts such as `2026-01-31T12:00:00Z`. What is None is left out.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack

from partyline_client import views
from partyline_client.events import Event
from partyline_client.request import (
    IDEMPOTENCY_KEY,
    Items,
    Listing,
    Page,
    Request,
    given,
    in_path,
    items_reader,
    read_nothing,
    read_page,
    reader,
    with_json,
    with_query,
)
from partyline_client.views import Object

T = TypeVar("T")
Time = datetime | str
Chat = Event | str | None
"""A conversation: its id, or an event of it. Of what has none, ValueError is raised."""
Share = str | Sequence[str]
"""`none`, `all`, or the ids of services."""
_KINDS: Final = ("template", "interactive", "media", "location", "contacts", "reaction")


class Wanted(TypedDict, total=False):
    """How to be connected; what is left out is set to its default, also on a second call."""

    endpoint_url: str | None
    event_types: Sequence[str] | None
    display: Literal["masked", "full"] | None
    share: Share | None
    on_exhausted: Literal["continue", "hold"] | None
    start_at: Time | None


class Writing(TypedDict, total=False):
    """What a message may have beside its text.

    `agent` (`id` and `name`) for a person, or another `origin` for automation. `type` is told by what is there: a
    `template`, `interactive`, `media`... `wait`: seconds to hold the answer until the provider has answered.
    """

    origin: str
    agent: Object | None
    type: str | None
    media: Object | Sequence[Object] | None
    template: Object | None
    interactive: Object | None
    location: Object | None
    contacts: Sequence[Object] | None
    reaction: Object | None
    reply_to: str | None
    preview_url: bool | None
    seen_sequence: int | None
    parent_epoch: int | None
    campaign: str | None
    send_at: Time | None
    links: Object | None
    idempotency_key: str | None
    wait: int | None


# Numbers and connections --------------------------------------------------------------------------------------------


def connect(number: str, **wanted: Unpack[Wanted]) -> Request[views.Connection]:
    """Connect to a number (E.164), or change how. Where the connection is new, `signing_secret` is told: keep it."""
    return with_json("PUT", _connection(number), dict(wanted), reader(views.Connection))


def disconnect(number: str) -> Request[None]:
    """Leave a number."""
    return Request("DELETE", _connection(number), read_nothing)


def pause(number: str) -> Request[views.Connected]:
    """Hold events back until `resume`."""
    return with_json("POST", _connection(number, "/pause"), {}, reader(views.Connected), is_safe=True)


def resume(number: str, mode: Literal["continue", "skip"] = "continue") -> Request[views.Connected]:
    """Go on after a pause: `continue` with what waited, or `skip` it."""
    path = _connection(number, "/resume")
    return with_json("POST", path, {"mode": mode}, reader(views.Connected), is_safe=mode == "continue")


def rotate_secret(number: str) -> Request[views.Rotated]:
    """Ask for a new signing secret; the hub signs with both for a while. `rotate` also keeps it."""
    return with_json("POST", _connection(number, "/rotate-secret"), {}, reader(views.Rotated))


def numbers() -> Listing[views.Number]:
    """All numbers of the organisation."""
    return _list(views.Number, "/v1/numbers")


def number(number: str) -> Request[views.Number]:
    """One number: its parent, subscribers and senders, and how deliveries go."""
    return _get(views.Number, in_path("/v1/numbers/{}", number))


def templates(number: str, *, medium: str | None = None, refresh: bool | None = None) -> Listing[views.Template]:
    """The templates of a number's senders; `refresh` asks the provider again."""
    path = in_path("/v1/numbers/{}/templates", number)
    return _list(views.Template, path, medium=medium, refresh=refresh)


# Conversations ------------------------------------------------------------------------------------------------------


def conversations(*, waiting: bool | None = None) -> Listing[views.Conversation]:
    """Conversations by age; `waiting`: those that were passed to this service and wait for it."""
    return _list(views.Conversation, "/v1/conversations", waiting=waiting)


def conversation(conversation: Chat) -> Request[views.Conversation]:
    """One conversation: who holds it, until when one may write freely."""
    return _get(views.Conversation, in_path("/v1/conversations/{}", _chat(conversation)))


def timeline(
    conversation: Chat, *, after: int | str | None = None, sort: str | None = None, limit: int | None = None
) -> Listing[views.Message]:
    """What was said, the newest first; `after` a sequence number: what came then, the oldest first."""
    path = in_path("/v1/conversations/{}/messages", _chat(conversation))
    cursor = "before" if after is None else "after"
    return _list(views.Message, path, cursor, after=after, sort=sort, limit=limit)


def pick_up(conversation: Chat, agent: Object) -> Request[views.PickedUp]:
    """Take a conversation for 15 minutes, or for 15 more: `agent` has an `id` and a `name`."""
    path = in_path("/v1/conversations/{}/pickup", _chat(conversation))
    return with_json("POST", path, {"agent": agent}, reader(views.PickedUp), is_safe=True)


def release(conversation: Chat, agent: Object | None = None) -> Request[views.Released]:
    """Let go of a conversation; with an `agent` only if that one holds it."""
    path = in_path("/v1/conversations/{}/pickup", _chat(conversation))
    return with_json("DELETE", path, {"agent": agent and {"id": agent["id"]}}, reader(views.Released))


def presence(
    conversation: Chat, agent: Object, state: Literal["viewing", "typing", "left"] = "viewing"
) -> Request[views.Present]:
    """Say for 30 seconds that somebody looks at a conversation or types."""
    path = in_path("/v1/conversations/{}/presence", _chat(conversation))
    return with_json("POST", path, {"agent": agent, "state": state}, reader(views.Present), is_safe=True)


def pass_to(
    conversation: Chat, service_id: str, *, note: str | None = None, agent: Object | None = None
) -> Request[views.Passed]:
    """Pass a conversation to another service of the channel."""
    body = {"to": service_id, "note": note, "agent": agent}
    return with_json("POST", in_path("/v1/conversations/{}/pass", _chat(conversation)), body, reader(views.Passed))


def mark_read(conversation: Chat, *, typing: bool | None = None) -> Request[views.Read]:
    """Show the customer that their messages were read; `typing`: and that somebody is writing."""
    path = in_path("/v1/conversations/{}/read", _chat(conversation))
    return with_json("POST", path, {"typing": typing}, reader(views.Read), is_safe=True)


# Messages -----------------------------------------------------------------------------------------------------------


def reply(conversation: Chat, text: str | None = None, **more: Unpack[Writing]) -> Request[views.Sent]:
    """Write to a customer. With the same `idempotency_key` (say, the id of the event it answers) it is sent once,
    however often it is asked for; without one, each call has its own, and keeps it when it is tried again.
    """
    return _message(in_path("/v1/conversations/{}/messages", _chat(conversation)), {"text": text}, more)


def send(
    to: str, text: str | None = None, *, medium: str, from_number: str, **more: Unpack[Writing]
) -> Request[views.Sent]:
    """Write to somebody who may have no conversation yet, from a number; on WhatsApp that begins with a `template`."""
    return _message("/v1/messages", {"to": to, "medium": medium, "from": from_number, "text": text}, more)


def _message(path: str, body: dict[str, Any], more: Writing) -> Request[views.Sent]:
    fields = {"origin": "agent", **more}
    key, wait = fields.pop("idempotency_key", None), fields.pop("wait", None)
    told = next((kind for kind in _KINDS if fields.get(kind) is not None), "text")
    wanted = {**fields, "type": fields.get("type") or told, **body}
    return with_json(
        "POST",
        with_query(path, wait=wait),
        wanted,
        reader(views.Sent),
        headers={IDEMPOTENCY_KEY: str(key or uuid.uuid4())},
    )


def message(message_id: str) -> Request[views.Message]:
    """One message, with a time for each status it went through."""
    return _get(views.Message, in_path("/v1/messages/{}", message_id))


def cancel(message_id: str) -> Request[views.Message]:
    """Take a message back that is still `queued`."""
    return Request("DELETE", in_path("/v1/messages/{}", message_id), reader(views.Message))


def upload_media(data: bytes, mime_type: str, *, filename: str | None = None) -> Request[views.Uploaded]:
    """Upload a file once, to send it often: `media={"id": ...}`."""
    path = with_query("/v1/media", filename=filename)
    return Request("POST", path, reader(views.Uploaded), {"Content-Type": mime_type}, data)


def media(media_id: str) -> Request[views.File]:
    """What is known of a file, and where to fetch it."""
    return _get(views.File, in_path("/v1/media/{}", media_id))


def refetch_media(media_id: str) -> Request[views.File]:
    """Have a customer's file fetched from the provider again."""
    return with_json("POST", in_path("/v1/media/{}/refetch", media_id), {}, reader(views.File), is_safe=True)


# Events -------------------------------------------------------------------------------------------------------------


def events(
    after: str | None = None, *, since: Time | None = None, number: str | None = None, limit: int | None = None
) -> Request[Page]:
    """The feed: from a position (`Page.next`), from a time, or from where the service's connections began."""
    return Request("GET", with_query("/v1/events", after=after, since=since, number=number, limit=limit), read_page)


def stream(last_event_id: str | None = None, *, since: Time | None = None, number: str | None = None) -> Request[None]:
    """The live stream, for an `EventStream` to read: from a position, which may be the feed's, a time, or now."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    return Request("GET", with_query("/v1/events/stream", since=since, number=number), read_nothing, headers)


def deliveries(
    *, number: str | None = None, outcome: str | None = None, event_id: str | None = None
) -> Listing[views.Delivery]:
    """What was posted to the service's endpoint, the newest first."""
    path = "/v1/deliveries"
    return _list(views.Delivery, path, "before", number=number, outcome=outcome, event_id=event_id)


def parked(*, number: str | None = None) -> Listing[views.Parked]:
    """Conversations whose deliveries fail, and wait."""
    return _list(views.Parked, "/v1/deliveries/parked", number=number)


def dead_letters(*, number: str | None = None) -> Listing[views.DeadLetter]:
    """Events that were given up, the oldest first."""
    return _list(views.DeadLetter, "/v1/deliveries/dead", number=number)


def drop_dead_letter(event_id: str) -> Request[None]:
    """Give one event up for good."""
    return Request("DELETE", in_path("/v1/deliveries/dead/{}", event_id), read_nothing)


def drop_dead_letters(*, number: str | None = None) -> Request[dict[str, Any]]:
    """Give all of them up: `dropped` says how many they were."""
    return Request("DELETE", with_query("/v1/deliveries/dead", number=number), reader(dict[str, Any]))


def replay(
    *,
    event_ids: Sequence[str] | None = None,
    from_event_id: str | None = None,
    to_event_id: str | None = None,
    since: Time | None = None,
    until: Time | None = None,
    failed: bool | None = None,
    conversation_id: str | None = None,
    number: str | None = None,
) -> Request[views.Replay]:
    """Have events delivered once more, marked as replays."""
    return with_json("POST", "/v1/replays", dict(locals()), reader(views.Replay))


def replays() -> Listing[views.Replay]:
    """The service's replays, the newest first."""
    return _list(views.Replay, "/v1/replays", "before")


def replay_state(replay_id: str) -> Request[views.Replay]:
    """How far one replay is."""
    return _get(views.Replay, in_path("/v1/replays/{}", replay_id))


def cancel_replay(replay_id: str) -> Request[views.Replay]:
    """Stop one: what was not delivered is not."""
    return Request("DELETE", in_path("/v1/replays/{}", replay_id), reader(views.Replay))


def trace(id: str) -> Request[dict[str, Any]]:  # noqa: A002  what the API calls it
    """What became of one message or event, step by step: by the hub's id, or the provider's."""
    return _get(dict[str, Any], "/v1/trace", id=id)


# People -------------------------------------------------------------------------------------------------------------


def identify(
    *,
    email: str | None = None,
    phone: str | None = None,
    external_id: str | None = None,
    contact_id: str | None = None,
    handle: str | None = None,
    proof: str | None = None,
    consents: Sequence[str] | None = None,
    name: str | None = None,
    traits: Object | None = None,
    idempotency_key: str | None = None,
) -> Request[views.Identified]:
    """Say who a customer is."""
    body = dict(locals())
    key = str(body.pop("idempotency_key") or uuid.uuid4())
    return with_json("POST", "/v1/identify", body, reader(views.Identified), headers={IDEMPOTENCY_KEY: key})


def contacts(*, address: str | None = None, external_id: str | None = None) -> Listing[views.Contact]:
    """Profiles by an address, or by what this service calls them."""
    return _list(views.Contact, "/v1/contacts", address=address, external_id=external_id)


def contact(contact_id: str) -> Request[views.Contact]:
    """A whole profile."""
    return _get(views.Contact, in_path("/v1/contacts/{}", contact_id))


def contact_timeline(contact_id: str, *, after: str | None = None, limit: int | None = None) -> Listing[dict[str, Any]]:
    """All that was said with a customer on every medium, and their visits: the newest first, or `after` a cursor."""
    path = in_path("/v1/contacts/{}/timeline", contact_id)
    return _list(dict[str, Any], path, "before" if after is None else "after", after=after, limit=limit)


def export_contact(contact_id: str) -> Request[dict[str, Any]]:
    """What this service brought of a contact."""
    return _get(dict[str, Any], in_path("/v1/contacts/{}/export", contact_id))


def erase_contact(contact_id: str) -> Request[dict[str, Any]]:
    """Erase what this service brought of a contact."""
    return Request("DELETE", in_path("/v1/contacts/{}", contact_id), reader(dict[str, Any]))


def visitor(visitor_id: str) -> Request[dict[str, Any]]:
    """A browser: whose it is, and what it visited."""
    return _get(dict[str, Any], in_path("/v1/visitors/{}", visitor_id))


def merge_candidates() -> Listing[dict[str, Any]]:
    """Pairs of contacts that may be one person."""
    return _list(dict[str, Any], "/v1/merge-candidates")


def merge(contact_id: str, other_id: str) -> Request[dict[str, Any]]:
    """Make the other contact part of this one."""
    path = in_path("/v1/contacts/{}/merge", contact_id)
    return with_json("POST", path, {"contact_id": other_id}, reader(dict[str, Any]))


def operations(contact_id: str) -> Listing[dict[str, Any]]:
    """What was done to a profile, the last first."""
    return _list(dict[str, Any], in_path("/v1/contacts/{}/operations", contact_id), "before")


def undo(operation_id: str) -> Request[dict[str, Any]]:
    """Take an operation on a profile back."""
    return with_json("POST", in_path("/v1/identity-operations/{}/undo", operation_id), {}, reader(dict[str, Any]))


def consent(medium: str, address: str, *, number: str | None = None) -> Request[views.Consent]:
    """What a customer agreed to, on one number or on all."""
    return _get(views.Consent, in_path("/v1/consents/{}/{}", medium, address), number=number)


def set_consent(
    medium: str,
    address: str,
    status: Literal["granted", "revoked"],
    *,
    evidence: str | None = None,
    number: str | None = None,
) -> Request[views.Consent]:
    """Note what a customer told you."""
    path = with_query(in_path("/v1/consents/{}/{}", medium, address), number=number)
    return with_json("PUT", path, {"status": status, "evidence": evidence}, reader(views.Consent))


# Tracked links ------------------------------------------------------------------------------------------------------


def create_link(
    url: str,
    *,
    address: str | None = None,
    medium: str | None = None,
    campaign: str | None = None,
    utm: Object | None = None,
    idempotency_key: str | None = None,
) -> Request[views.Link]:
    """Make a tracked link for a message that the hub does not send."""
    body = dict(locals())
    key = str(body.pop("idempotency_key") or uuid.uuid4())
    return with_json("POST", "/v1/links", body, reader(views.Link), headers={IDEMPOTENCY_KEY: key})


def create_links(wanted: Sequence[Object], *, idempotency_key: str | None = None) -> Request[list[views.Link]]:
    """Make up to 500 at once, all or none; they come in the same order."""
    headers = {IDEMPOTENCY_KEY: str(idempotency_key or uuid.uuid4())}
    return with_json("POST", "/v1/links", {"links": list(wanted)}, _links, headers=headers)


def link(link_id: str) -> Request[views.LinkReport]:
    """A link, and what became of it."""
    return _get(views.LinkReport, in_path("/v1/links/{}", link_id))


def disable_link(link_id: str) -> Request[None]:
    """Let it lead nowhere from now on."""
    return Request("DELETE", in_path("/v1/links/{}", link_id), read_nothing)


def message_links(message_id: str) -> Request[Items[views.LinkReport]]:
    """The links of a message; `answer["total"]` has all of them together."""
    return Request("GET", in_path("/v1/messages/{}/links", message_id), items_reader(views.LinkReport))


def campaign_links(name: str) -> Listing[dict[str, Any]]:
    """What became of a campaign, message by message."""
    return _list(dict[str, Any], in_path("/v1/campaigns/{}/links", name))


# Anything else ------------------------------------------------------------------------------------------------------


def request(method: str, path: str, body: Mapping[str, Any] | None = None, **query: object) -> Request[Any]:
    """Any other request, with a body of JSON."""
    whole = with_query(path, **query)
    return Request(method, whole, _as_it_is) if body is None else with_json(method, whole, body, _as_it_is)


def _as_it_is(answer: Any) -> Any:
    return answer


def _links(answer: Any) -> list[views.Link]:
    return [reader(views.Link)(one) for one in reader(dict[str, Any])(answer).get("links", ())]


def _chat(chat: Chat) -> str:
    found = chat.conversation_id if isinstance(chat, Event) else chat
    if not found:
        raise ValueError("this belongs to no conversation")
    return found


def _get(kind: type[T], path: str, **query: object) -> Request[T]:
    return Request("GET", with_query(path, **query), reader(kind))


def _list(kind: type[T], path: str, cursor: str = "after", **query: object) -> Listing[T]:
    return Listing(Request("GET", with_query(path, **given(query)), items_reader(kind)), cursor)


def _connection(number: str, verb: str = "") -> str:
    return in_path("/v1/numbers/{}/connection", number) + verb
