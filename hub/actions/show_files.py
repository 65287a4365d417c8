"""Files in views of messages: where to fetch them, and what is known of them (rules C1, E10)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from hub.domain.errors import NotFound
from hub.domain.ids import parse_id
from hub.domain.media_links import PREFIX, MediaLinks
from hub.store import media
from hub.store.pool import Connection


async def show_files(
    conn: Connection, links: MediaLinks, viewer: UUID | None, views: Sequence[dict[str, Any]], now: float
) -> list[dict[str, Any]]:
    """Messages as somebody sees them (None: the operator), with an address, state and size of each file of the hub's.
    Masked messages stay as they are: they name none. `now` in unix seconds.
    """
    ids = {media_id for view in views for media_id in _ids(view)}
    if not ids:
        return list(views)
    rows = await media.list_media(conn, ids)
    shown = []
    for view in views:
        known = [_known(file, rows) for file in view["media"]] if _ids(view) else None
        shown.append(links.with_urls({**view, "media": known}, viewer, now) if known else view)
    return shown


def _known(file: Any, rows: Mapping[UUID, Any]) -> Any:
    row = rows.get(_id(file))  # type: ignore[arg-type]
    if row is None:
        return file
    size = {"size": row["size"]} if row["size"] is not None else {}
    return {**file, **size, "state": row["state"]}


def _ids(view: Mapping[str, Any]) -> list[UUID]:
    files = view.get("media")
    return [found for file in files if (found := _id(file))] if isinstance(files, list) else []


def _id(file: Any) -> UUID | None:
    """The id of a file of the hub's; None for what is only an address, or a provider's."""
    name = file.get("id") if isinstance(file, Mapping) else None
    if not isinstance(name, str):
        return None
    try:
        return parse_id(PREFIX, name)
    except NotFound:
        return None
