"""Merging contacts, what was done to them, and undoing it: for parents, and for the operator (rules I, H5)."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from aiohttp import web

from hub.actions.identity_events import person
from hub.actions.merge import Manager, Merged, merge_contacts
from hub.actions.register import OPERATOR
from hub.actions.roster import Caller
from hub.actions.undo import Undone, undo
from hub.actions.view_contact import find_person
from hub.actions.view_identity import list_candidates, list_operations
from hub.domain.ids import public_id
from hub.http.answers import identity
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.identify import ContactId, again
from hub.http.operations import operation
from hub.http.params import CONTACT, LIMIT, after_id, in_path, integer
from hub.http.problems import answer
from hub.http.schemas import Model, read_json
from hub.store.pool import Connection

log = structlog.get_logger()

_AFTER: Final = after_id("mrg")
_BEFORE: Final = integer("before", "the `next` of the page before", default=2**62)
_OPERATION: Final = in_path("op", "the operation")
_MERGE_CODES: Final = ("merge_not_allowed", "already_merged", "verified_identities")
_UNDO_CODES: Final = ("merge_not_allowed", "already_undone", "undo_order", "not_undoable", "in_use")


class MergeIn(Model):
    """The contact that becomes part of the one named in the path."""

    contact_id: ContactId


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, for_service, for_operator in (
        ("GET", "merge-candidates", get_candidates, get_any_candidates),
        ("POST", "contacts/{id}/merge", post_merge, post_any_merge),
        ("GET", "contacts/{id}/operations", get_operations, get_any_operations),
        ("POST", "identity-operations/{id}/undo", post_undo, post_any_undo),
    ):
        app.router.add_route(method, f"/v1/{path}", service(for_service, "profiles"))
        app.router.add_route(method, f"/v1/admin/{path}", operator(for_operator))


@operation(query=(_AFTER, LIMIT), answers={200: identity.MergeCandidates})
async def get_candidates(request: web.Request, caller: Caller) -> web.Response:
    """Pairs of contacts that may be one person, of which the service may know both."""
    return await _candidates(request, caller.service_id)


@operation(query=(_AFTER, LIMIT), answers={200: identity.MergeCandidates})
async def get_any_candidates(request: web.Request) -> web.Response:
    """All pairs of contacts that may be one person."""
    return await _candidates(request, None)


async def _candidates(request: web.Request, service_id: UUID | None) -> web.Response:
    after, limit = _AFTER.read(request), LIMIT.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        items, following = await list_candidates(conn, service_id, after, limit)
    return answer({"items": items, "next": public_id("mrg", following) if following else None})


@operation(path=(CONTACT,), query=(_BEFORE, LIMIT), answers={200: identity.Operations})
async def get_operations(request: web.Request, caller: Caller) -> web.Response:
    """What was done to a contact, and by which rule."""
    return await _operations(request, caller.service_id)


@operation(path=(CONTACT,), query=(_BEFORE, LIMIT), answers={200: identity.Operations})
async def get_any_operations(request: web.Request) -> web.Response:
    """What was done to any contact, and by which rule, with all changes."""
    return await _operations(request, None)


async def _operations(request: web.Request, service_id: UUID | None) -> web.Response:
    contact_id, limit, before = CONTACT.read(request), LIMIT.read(request), _BEFORE.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        items, following = await list_operations(conn, service_id, contact_id, before, limit)
    return answer({"items": items, "next": str(following) if following else None})


@operation(path=(CONTACT,), body=MergeIn, answers={200: identity.Merged}, codes=_MERGE_CODES)
async def post_merge(request: web.Request, caller: Caller) -> web.Response:
    """Merge a contact into this one, as the parent of every channel they write on."""
    return await _merge(request, Manager(caller.actor, caller.service_id))


@operation(path=(CONTACT,), body=MergeIn, answers={200: identity.Merged}, codes=_MERGE_CODES)
async def post_any_merge(request: web.Request) -> web.Response:
    """Merge a contact into this one, whatever channels they write on."""
    return await _merge(request, Manager(OPERATOR))


async def _merge(request: web.Request, manager: Manager) -> web.Response:
    context, kept_id = request.app[CONTEXT], CONTACT.read(request)
    absorbed_id = MergeIn.model_validate((await read_json(request))[1]).contact_id

    async def take(conn: Connection) -> tuple[Merged, web.Response]:
        for contact_id in (kept_id, absorbed_id):
            await find_person(conn, contact_id, manager.service_id)
        done = await merge_contacts(conn, manager, kept_id, absorbed_id, datetime.now(UTC))
        view = {
            "operation_id": public_id("op", done.op_id),
            "contact": await person(conn, kept_id),
            "merged_id": public_id("con", absorbed_id),
        }
        return done, answer(view)

    done, response = await again(context, take)
    context.publish(done.events)
    log.info("contact.merged", by=manager.actor, operation=str(done.op_id))
    return response


@operation(path=(_OPERATION,), answers={200: identity.Undone}, codes=_UNDO_CODES)
async def post_undo(request: web.Request, caller: Caller) -> web.Response:
    """Take an operation back, with the same right as merging."""
    return await _undo(request, Manager(caller.actor, caller.service_id))


@operation(path=(_OPERATION,), answers={200: identity.Undone}, codes=_UNDO_CODES)
async def post_any_undo(request: web.Request) -> web.Response:
    """Take any operation back."""
    return await _undo(request, Manager(OPERATOR))


async def _undo(request: web.Request, manager: Manager) -> web.Response:
    context, op_id = request.app[CONTEXT], _OPERATION.read(request)

    async def take(conn: Connection) -> Undone:
        return await undo(conn, manager, op_id, datetime.now(UTC))

    done = await again(context, take)
    context.publish(done.events)
    log.info("identity.undone", by=manager.actor, operation=str(op_id), rule=done.rule)
    view = {"operation_id": public_id("op", op_id), "kind": done.kind, "rule": done.rule, "undone_at": done.at}
    return answer(view)
