"""The adapter API: customers, over all their conversations (rule C3)."""

from aiohttp import web

from hub.actions.roster import Caller
from hub.actions.timeline import read_timeline
from hub.domain.ids import parse_id
from hub.domain.timeline import decode, encode
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of, one_way


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get("/v1/contacts/{id}/timeline", service(get_timeline, "read"))


async def get_timeline(request: web.Request, caller: Caller) -> web.Response:
    """All that was said with a contact, over all media and numbers: newest first (`before=`), or from a place, or from
    the beginning, on (`after=`); masked per rule C.
    """
    contact_id, limit = parse_id("con", request.match_info["id"]), limit_of(request)
    before, after = request.query.get("before"), request.query.get("after")
    one_way(request)
    is_forward, cursor = after is not None, before if after is None else after
    place = None if cursor is None or (is_forward and cursor == "0") else decode(cursor)
    async with request.app[CONTEXT].database.transaction() as conn:
        page = await read_timeline(conn, caller.service_id, contact_id, place, limit, is_forward=is_forward)
    older, newer = encode(page.before), encode(page.after)
    following = newer if is_forward else older
    return answer(
        {
            "items": page.items,
            "next": following if len(page.items) == limit else None,
            "before": older,
            "after": newer,
            "conversations": page.conversations,
        }
    )
