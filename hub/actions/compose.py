"""From what a service asks to send to what is stored and handed to a provider (rule E10)."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any
from uuid import UUID

from hub.domain import kinds
from hub.domain.errors import Conflict, Fault, Invalid, NotFound
from hub.domain.ids import parse_id
from hub.domain.media_links import PREFIX
from hub.domain.mime_types import bare_mime_type
from hub.store import media, messages, templates
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record
from providers.base import Medium

Capabilities = Mapping[str, Mapping[Medium, frozenset[str]]]
"""What can be done, by provider and medium: `Provider.supports`."""


async def compose(
    conn: Connection, service_id: UUID, state: ConversationState, sender: Record, kind: str,
    content: dict[str, Any], capabilities: Capabilities,
) -> dict[str, Any]:  # fmt: skip
    """The content as it is stored, every reference in it resolved. Raises `Invalid` for what the medium cannot do."""
    if state.reply_to.type == "sender_id":
        raise Conflict("this customer's address cannot be written to", code="no_address")
    medium, provider = state.medium, sender["provider"]
    can = capabilities.get(provider, {}).get(sender["medium"], frozenset())
    kinds.check_kind(kind, content, medium, provider, can)
    kinds.check_text(kind, content, medium, provider)
    made = dict(content)
    if kind in kinds.FILE_KINDS:
        made["media"] = await _files(conn, service_id, kind, content["media"], medium, provider)
    if kind == "template":
        made["template"] = await _template(conn, sender, content["template"])
    if kind == "reaction":
        reaction = content["reaction"]
        target = await _target(conn, state, provider, reaction["message_id"], "/reaction/message_id")
        kinds.check_reaction_target(target["type"], is_deleted=target["deleted_at"] is not None)
        made["reaction"] = {**reaction, "provider_id": target["provider_id"]}
    if "reply_to" in content:
        made["reply_to"] = await _quoted(conn, state, provider, content["reply_to"])
    return made


async def resolve_kind(conn: Connection, service_id: UUID, kind: str, content: Mapping[str, Any]) -> str:
    """The message type that `media` stands for: that of its first file, by the type given, of the upload, or of the
    URL's ending. Raises `Invalid` where that tells nothing.
    """
    if kind != "media":
        return kind
    first = content["media"][0]
    mime_type = first.get("mime_type") or kinds.guess_mime_type(first.get("url") or first.get("filename") or "")
    if "id" in first:
        # Not held yet: conversations are locked before files.
        mime_type = (await _upload_rows(conn, service_id, [first], read=media.list_media))[0]["mime_type"]
    resolved = kinds.kind_of(mime_type)
    if resolved is None:
        raise Invalid(
            "nothing tells what kind of file this is: name its mime_type, or say image, video, audio, document or"
            " sticker as the type (rule E10).",
            errors=[Fault("/media/0/mime_type", "missing", "is needed here")],
        )
    return resolved


async def _files(
    conn: Connection, service_id: UUID, kind: str, wanted: list[dict[str, Any]], medium: str, provider: str
) -> list[dict[str, Any]]:
    kinds.check_file_count(len(wanted), medium, provider)
    rows = iter(await _upload_rows(conn, service_id, [file for file in wanted if "id" in file], wanted))
    made = [_described(file, next(rows) if "id" in file else None) for file in wanted]
    for place, file in enumerate(made):
        kinds.check_file(kind, file, medium, provider, place, is_mixed=len(made) > 1)
    kinds.check_total(made, medium)
    return made


def _described(file: dict[str, Any], row: Record | None) -> dict[str, Any]:
    """A file as it is stored; what was uploaded is known better by the hub than by who names it."""
    if row is None:
        return {**file, "mime_type": bare_mime_type(file["mime_type"])} if "mime_type" in file else file
    name = file.get("filename") or row["filename"]
    return {"id": file["id"], "mime_type": row["mime_type"], "filename": name, "size": row["size"]}


async def _upload_rows(
    conn: Connection, service_id: UUID, files: list[dict[str, Any]], among: list[dict[str, Any]] | None = None,
    *, read: Callable[[Connection, Collection[UUID]], Awaitable[dict[UUID, Record]]] = media.hold_media,
) -> list[Record]:  # fmt: skip
    """The uploads these files name. Raises `Invalid` with a fault for each that this service has not uploaded."""
    ids = [_media_id(file["id"]) for file in files]
    known = await read(conn, [media_id for media_id in ids if media_id])
    found = [known.get(media_id) if media_id else None for media_id in ids]
    rows = [row for row in found if row is not None and row["service_id"] == service_id]
    if len(rows) < len(files):
        good = {row["id"] for row in rows}
        faults = [
            Fault(f"/media/{place}/id", "unknown_media", "is no upload of this service")
            for place, file in enumerate(among or files)
            if "id" in file and _media_id(file["id"]) not in good
        ]
        raise Invalid(
            "a file is named that this service has not uploaded, or that is kept no more: upload it with POST /v1/media"
            " first (rule E10).",
            code="unknown_media",
            errors=faults,
        )
    return rows


def uploads_in(content: Mapping[str, Any]) -> list[UUID]:
    """The uploads that composed content names."""
    files = [file["id"] for file in content.get("media") or () if "id" in file]
    return [media_id for name in files if (media_id := _media_id(name))]


def _media_id(text: str) -> UUID | None:
    try:
        return parse_id(PREFIX, text)
    except NotFound:
        return None


async def _template(conn: Connection, sender: Record, wanted: dict[str, Any]) -> dict[str, Any]:
    """What the provider's list says of a template is noted with it; one that is not listed is left to the provider."""
    kinds.check_template_form(wanted, sender["provider"])
    if "content_sid" in wanted:
        known = await templates.find_by_id(conn, sender["id"], wanted["content_sid"])
    else:
        known = await templates.find_by_name(conn, sender["id"], wanted["name"], wanted["language"])
    if known is None:
        return wanted
    kinds.check_template_status(known["status"], sender["medium"])
    return {**wanted, "category": known["category"]} if known["category"] else wanted


async def _quoted(conn: Connection, state: ConversationState, provider: str, reference: str) -> dict[str, str]:
    """The message to quote, named by its id here or by the provider's."""
    if not reference.startswith("msg_"):
        return {"provider_id": reference}
    target = await _target(conn, state, provider, reference, "/reply_to")
    return {"provider_id": target["provider_id"], "message_id": reference}


async def _target(conn: Connection, state: ConversationState, provider: str, reference: str, pointer: str) -> Record:
    """A message of this conversation that the provider knows. Raises `Invalid`, `Conflict`."""
    try:
        row = await messages.find_message(conn, parse_id("msg", reference))
    except NotFound:
        row = None
    if row is None or row["conversation_id"] != state.id:
        raise Invalid(
            "there is no such message in this conversation: only its own can be answered (rule E10).",
            code="unknown_message",
            errors=[Fault(pointer, "unknown_message", "is no message of this conversation")],
        )
    if row["provider_id"] is None:
        raise Conflict(
            "the provider does not have that message: wait until it is sent (rule E10).", code="message_not_sent"
        )
    if row["provider"] != provider:  # the number's sender was another one then
        raise Conflict(
            f"that message went through {row['provider']}, and {provider} does not know it: answer without it"
            " (rule E10).",
            code="message_not_sent",
        )
    return row
