"""Who may have a file: judged when it is asked for, not when its address was given out (rules A4, C1, C2)."""

from typing import Any
from uuid import UUID

from hub.domain.errors import Gone, NotFound
from hub.domain.ids import public_id
from hub.domain.masking import may_see_content
from hub.domain.media_links import PREFIX, MediaLinks
from hub.store import media, media_fetches, services, visibility
from hub.store.pool import Connection, Record


def no_file() -> NotFound:
    """What somebody may not have is not there for them."""
    return NotFound("there is no file at this address, or the address has expired")


async def find_file(conn: Connection, media_id: UUID, viewer: UUID | None) -> Record:
    """A file that a service, or the operator (None), may have now. Raises `NotFound`."""
    row = (await media.list_media(conn, [media_id])).get(media_id)
    if row is None or (viewer is not None and not await _may_have(conn, row, viewer)):
        raise no_file()
    return row


async def _may_have(conn: Connection, row: Record, viewer: UUID) -> bool:
    """A service has what it uploaded, and what it may see in full in a message of a channel it is connected to."""
    if row["service_id"] == viewer:
        return await services.find_service(conn, viewer) is not None
    places = await media.list_reach(conn, row["id"], viewer)
    if any(place["author_service_id"] is None for place in places):
        return True
    policies = await visibility.read_policies(conn, {place["channel_id"] for place in places}) if places else {}
    return any(
        may_see_content(policies, place["channel_id"], viewer, place["author_service_id"], place["created_at"])
        for place in places
    )


def unavailable(row: Record) -> Gone:
    """Why there is nothing to be had."""
    why = {
        "unavailable": f"could not be had of the provider ({row['error']})",
        "expired": "was kept as long as the operator keeps files",
        "erased": "was erased with its customer (rule H5)",
    }
    more = ": POST /v1/media/{id}/refetch tries again" if row["state"] == "unavailable" else ""
    return Gone(
        f"this file {why.get(row['state'], 'is not where it was kept')}{more}",
        state=row["state"],
        reason=row["error"],
    )


def file_view(row: Record, links: MediaLinks, viewer: UUID | None, now: float) -> dict[str, Any]:
    """What is known of a file, for a service or the operator (None)."""
    view: dict[str, Any] = {
        "id": public_id(PREFIX, row["id"]),
        "state": row["state"],
        "mime_type": row["mime_type"],
        "filename": row["filename"],
        "size": row["size"],
        "sha256": row["sha256"].hex() if row["sha256"] and row["state"] == "kept" else None,
        "error": row["error"],
        "created_at": row["created_at"],
    }
    return next(iter(links.with_urls({"media": [view]}, viewer, now)["media"]))


async def refetch(conn: Connection, media_id: UUID, viewer: UUID | None) -> tuple[Record, bool]:
    """Have a customer's file fetched again, now; what is kept stays as it is. Gives the file, and whether there is
    something to fetch. Raises `NotFound`, `Gone` for what is gone for good.
    """
    row = await find_file(conn, media_id, viewer)
    if row["state"] == "kept":
        return row, False
    if not await media_fetches.refetch(conn, media_id):
        raise unavailable(row)
    return (await media.list_media(conn, [media_id]))[media_id], True
