"""Meta's webhook for the WhatsApp Cloud API: verify the signature, parse every item (rules B1 to B5).

All functions are pure and none raises on any input. A body is a batch: `entry[] x changes[] x` a list of messages,
statuses, calls, chunks of history and the like, or one notice about an account or a template. Each element becomes one
item of its own, so that a bad one never harms its neighbours; what this version does not know is kept, to be replayed
by one that does.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from providers.base import Item, Unparsed, WebhookRequest
from providers.whatsapp_cloud.batch import FRAME, Change, open_change, unparsed_bytes, wrap
from providers.whatsapp_cloud.calls import read_call, read_call_error
from providers.whatsapp_cloud.handovers import read_handover, read_handover_item
from providers.whatsapp_cloud.history import read_history, read_history_media, split_history
from providers.whatsapp_cloud.identities import read_user_id_update
from providers.whatsapp_cloud.messages import read_echo, read_message, read_standby, read_standby_echo
from providers.whatsapp_cloud.notices import NOTICE_FIELDS, read_notice
from providers.whatsapp_cloud.plain import read_plain
from providers.whatsapp_cloud.preferences import read_preference
from providers.whatsapp_cloud.statuses import read_status
from providers.whatsapp_cloud.template_news import TEMPLATE_FIELDS, read_template_news
from providers.whatsapp_cloud.values import MAX_DEPTH, errors_of, is_deeper, load, may_be_deep, settle

_JSON: Final = "application/json"

Reader = Callable[[dict[str, Any], Change, bool], Item]
Found = tuple[Item, Callable[[], bytes]]
"""An item, and how to get a body that holds only this item."""


def verify(request: WebhookRequest, secrets: Sequence[str]) -> bool:
    """Whether Meta signed these bytes with one of the app secrets (rule B1)."""
    signature = request.headers.get("x-hub-signature-256")
    if not signature or not signature.isascii():
        return False
    is_ours = False
    for secret in secrets:
        if secret:  # anybody can sign with an empty secret
            digest = _keyed(secret).copy()
            digest.update(request.body)
            is_ours |= hmac.compare_digest(f"sha256={digest.hexdigest()}", signature)
    return is_ours


@lru_cache(64)
def _keyed(secret: str) -> "hmac.HMAC":
    """The start of every signature with this secret."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), digestmod=hashlib.sha256)


def answer_handshake(query: Mapping[str, str], verify_token: str | None) -> str | None:
    """The challenge, if the caller knows the verify token; None to refuse."""
    challenge, offered = query.get("hub.challenge"), query.get("hub.verify_token")
    if not verify_token or offered is None or query.get("hub.mode") != "subscribe":
        return None
    expected = verify_token.encode("utf-8", "surrogatepass")
    return challenge if hmac.compare_digest(expected, offered.encode("utf-8", "surrogatepass")) else None


def parse(request: WebhookRequest) -> list[Item]:
    """Every item of a body, and at least one for any body whatever."""
    body = request.body
    try:
        document, needs_care = load(body)
    except (ValueError, RecursionError) as error:
        return [unparsed_bytes("invalid_json", str(error), body)]
    plain = None if needs_care else read_plain(document)
    if plain is None:
        needs_care = needs_care or may_be_deep(body)
    items: list[Item] = [plain] if plain else [item for item, _ in _walk(document, body, needs_care)]
    if needs_care and any(item.cleaned for item in items if not isinstance(item, Unparsed)):
        items.append(unparsed_bytes("text_cleaned", "", body, is_note=True))
    content_type = request.headers.get("content-type")
    if content_type and content_type != _JSON and content_type.partition(";")[0].strip().lower() != _JSON:
        items.append(unparsed_bytes("content_type", content_type, body, is_note=True))
    return items


def envelopes(request: WebhookRequest) -> dict[str, bytes]:
    """For each item of a body, by its key, a body that holds only this item and parses to it again."""
    try:
        document, needs_care = load(request.body)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, bytes] = {}
    for item, raw in _walk(document, request.body, needs_care or may_be_deep(request.body)):
        if item.key not in found:  # of items with one key the first is taken in (rule B4)
            found[item.key] = raw()
    return found


def _walk(document: Any, body: bytes, needs_care: bool) -> Iterator[Found]:
    entries = document.get("entry") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        yield _whole(unparsed_bytes("unexpected_shape", "entry", body))
        return
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list) or not changes:
            yield _whole(unparsed_bytes("unexpected_shape", "changes", wrap(entry, body)))
            continue
        for change in changes:
            yield from _walk_change(entry, change, body, needs_care)


def _walk_change(entry: dict[str, Any], change: Any, body: bytes, needs_care: bool) -> Iterator[Found]:
    alone = {name: entry[name] for name in ("id", "time") if name in entry} | {"changes": [change]}
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict):
        reason = "empty_change" if isinstance(change, dict) and value is None else "unexpected_shape"
        yield _whole(unparsed_bytes(reason, "value", wrap(alone, body)))
        return
    opened = open_change(entry, change, body, needs_care=needs_care)
    if opened.field in _NOTED:
        yield _whole(unparsed_bytes("not_needed", opened.field, wrap(alone, body), is_note=True))
        return
    if opened.field in _WHOLES and not isinstance(opened.value.get(opened.field), list):
        yield _read(opened, "", opened.value, _WHOLES[opened.field]), opened.whole
        return
    is_bare = True
    for name, element, reader in _elements(opened):
        is_bare = False
        yield _read(opened, name, element, reader), partial(opened.envelope, name, element)
    if is_bare:
        is_empty = all(name in FRAME or part in ([], None) for name, part in opened.value.items())
        reason = "empty_change" if is_empty else "unhandled_field"
        yield _whole(unparsed_bytes(reason, opened.field, wrap(alone, body)))


def _elements(change: Change) -> Iterator[tuple[str, Any, Reader | None]]:
    """Everything in a change that counts as an item: the elements of its lists, and what should have been a list."""
    readers = _READERS.get(change.field, {})
    for name, part in change.value.items():
        if name in FRAME or part is None:
            continue
        if isinstance(part, list):
            reader = readers.get(name)
            for element in part:
                for piece in split_history(element) if reader is read_history else (element,):
                    yield name, piece, reader
        elif name in readers:
            yield name, part, None


def _read(change: Change, name: str, element: Any, reader: Reader | None) -> Item:
    if reader is None or not isinstance(element, dict):
        readers = _READERS.get(change.field)
        reason = "unexpected_shape" if readers and name in readers else "unhandled_field"
        return change.unparsed(reason, name if readers else change.field, name, element)
    item, is_cleaned = element, change.is_cleaned
    if change.needs_care:
        if is_deeper(element, MAX_DEPTH):
            return change.unparsed("too_deep", name, name, element)
        item = settle(element)
        is_cleaned = is_cleaned or item != element
    try:
        return reader(item, change, is_cleaned)
    except Exception as error:
        # A fault of ours must not cost the neighbours: the item waits in quarantine for a version that reads it.
        return change.unparsed("parser_failed", f"{name}: {type(error).__name__}: {error}", name, element)


def _read_error(error: dict[str, Any], change: Change, _is_cleaned: bool) -> Item:
    """An error about the number and no message: nothing to deliver, but somebody should see it."""
    said = errors_of(error)[0]
    detail = " ".join(str(said[name]) for name in ("code", "title", "detail") if said[name])
    return change.unparsed("provider_error", detail, "errors", error)


def _whole(item: Unparsed) -> Found:
    return item, lambda: item.raw


_READERS: Final[Mapping[str, Mapping[str, Reader]]] = {
    "messages": {
        "messages": read_message,
        "statuses": read_status,
        "errors": _read_error,
        "message_echoes": read_echo,
    },
    "smb_message_echoes": {"message_echoes": read_echo, "statuses": read_status, "errors": _read_error},
    "message_echoes": {"message_echoes": read_echo, "statuses": read_status, "errors": _read_error},
    "standby": {
        "messages": read_standby,
        "message_echoes": read_standby_echo,
        "statuses": read_status,
        "errors": _read_error,
    },
    "history": {"history": read_history, "messages": read_history_media, "errors": _read_error},
    "calls": {"calls": read_call, "statuses": read_status, "errors": read_call_error},
    "user_preferences": {"user_preferences": read_preference},
    "user_id_update": {"user_id_update": read_user_id_update},
    "messaging_handovers": {"messaging_handovers": read_handover_item},
}
"""What is read, by the change's field and the name of the list; all else is kept as `unhandled_field`."""
_WHOLES: Final[Mapping[str, Reader]] = {
    "messaging_handovers": read_handover,
    **dict.fromkeys(TEMPLATE_FIELDS, read_template_news),
    **dict.fromkeys(NOTICE_FIELDS, read_notice),
}
"""Fields whose value is one item."""
_NOTED: Final = frozenset(
    {
        "smb_app_state_sync",
        *("group_lifecycle_update", "group_participants_update", "group_settings_update", "group_status_update"),
        *("automatic_events", "flows", "partner_solutions", "payment_configuration_update", "tracking_events"),
    }
)
"""Fields that are no business of the hub's: the phone app's address book, groups, advertisements, flows. Their bytes
are noted, and nobody has to look at them.
"""
