"""Services for the operator: who they are, their keys and connections, and removing one (rules A3, A5, H3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions import manage_service
from hub.actions.delivery_view import view_deliveries
from hub.actions.register import register_service
from hub.domain.eligibility import is_eligible
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import parse_id, public_id
from hub.http.admin_schemas import ServiceChangeIn, ServiceIn
from hub.http.console.fields import PAGE, Fields, asked, given, is_first, new_once, next_url, read_as, ticked
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT, Context
from hub.store import services, subscriptions
from hub.store.pool import Connection, Record

SCOPES: Final = (
    ("read", "Read conversations, events and deliveries"),
    ("reply", "Let agents write to customers"),
    ("automate", "Send everything else: bots, notifications, campaigns"),
    ("profiles", "See who customers are, and what they do on tracked sites"),
)
_MOST_KEYS: Final = 200
_NONE: Final = UUID(int=0)
_URL: Final = "/console/services"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_URL, page(show_services, operator_only=True))
    app.router.add_get(f"{_URL}/{{id}}", page(show_service, operator_only=True))
    for path, handler in (
        ("", create),
        ("/{id}", change),
        ("/{id}/keys", add_key),
        ("/{id}/keys/{key_id}/revoke", revoke_key),
        ("/{id}/remove", remove),
    ):
        app.router.add_post(f"{_URL}{path}", form(handler, operator_only=True))


async def show_services(
    request: web.Request, viewer: Viewer, typed: Fields | None = None, wrong: str | None = None
) -> web.Response:
    """All services by age, and a form to register one; with what was `typed`, where that was `wrong`."""
    after = parse_id("svc", text) if (text := asked(request, "after")) else _NONE
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await services.list_services(conn, after, PAGE)
        items = [{**_view(request.app[CONTEXT], row), "numbers": await _numbers(conn, row)} for row in rows]
    following = next_url(request, after=items[-1]["id"]) if len(rows) == PAGE else None
    return render(
        request, viewer, "services.html", title="Services", rows=items, next_url=following, once=new_once(),
        scopes=SCOPES, typed=typed, wrong=wrong, status=422 if wrong else 200,
    )  # fmt: skip


async def _numbers(conn: Connection, service: Record) -> list[str]:
    return [row["e164"] for row in await subscriptions.list_of_service(conn, service["id"])]


def _view(context: Context, row: Record) -> dict[str, Any]:
    names = ("name", "plan", "product", "upgraded_from_standalone", "scopes", "created_at")
    shares = is_eligible(
        context.eligibility,
        plan=row["plan"],
        product=row["product"],
        upgraded_from_standalone=row["upgraded_from_standalone"],
    )
    return {"id": public_id("svc", row["id"]), **{name: row[name] for name in names}, "shares": shares}


async def show_service(request: web.Request, viewer: Viewer) -> web.Response:
    """One service: what it may do, its keys, its connections, and the ways to change and to remove it."""
    service_id = _service_id(request)
    async with request.app[CONTEXT].database.reading() as conn:
        row = await manage_service.find_service(conn, service_id)
        keys = await services.list_keys(conn, service_id, _NONE, _MOST_KEYS)
        own = await subscriptions.list_of_service(conn, service_id)
        connections = await view_deliveries(conn, [each["id"] for each in own])
    return render(
        request, viewer, "service.html", title=row["name"], service=_view(request.app[CONTEXT], row), scopes=SCOPES,
        keys=[{**dict(key), "id": public_id("key", key["id"])} for key in keys], connections=connections,
        once=new_once(),
    )  # fmt: skip


def _service_id(request: web.Request) -> UUID:
    return parse_id("svc", request.match_info["id"])


def _said(fields: Fields) -> dict[str, Any]:
    """What the form says of a service, as the API has it."""
    return {
        "name": fields.get("name", ""),
        "plan": fields.get("plan", ""),
        "product": given(fields, "product"),
        "upgraded_from_standalone": "upgraded" in fields,
        "scopes": ticked(fields, "scope "),
    }


async def create(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Register a service; its key is in this answer, and nowhere else."""
    try:
        wanted = read_as(ServiceIn, _said(fields))
    except Invalid as refusal:
        return await show_services(request, viewer, fields, refusal.detail)
    async with request.app[CONTEXT].database.transaction() as conn:
        if not await is_first(conn, viewer, fields):
            return see_other(request, _URL, notice="This service was registered already, and its key shown then.")
        made, key = await register_service(conn, **wanted.model_dump())
    return show_key(request, viewer, made, key, f"{made['name']} is registered")


def show_key(request: web.Request, viewer: Viewer, service: Record, key: str, title: str) -> web.Response:
    """A page with an API key, which nothing keeps."""
    url = request.app[CONTEXT].public_url.rstrip("/")
    return render(
        request, viewer, "shown_once.html", title=title,
        kind="API key", secret=key, whose=service["name"],
        use="The service sends it with every call, as Authorization: Bearer. Keep it where the service keeps its"
        " secrets; whoever has it can do what the service may do.",
        lost="It is lost? Make another on the service's page, and revoke this one.",
        commands=[("See that it works", f'curl -H "Authorization: Bearer {key}" {url}/v1/numbers')],
        onward=(f"{_URL}/{public_id('svc', service['id'])}", f"To {service['name']}"),
    )  # fmt: skip


async def change(request: web.Request, _: Viewer, fields: Fields) -> web.Response:
    """Change what the form says; connections stay as they are."""
    wanted = read_as(ServiceChangeIn, _said(fields))
    if not wanted.name or not wanted.plan:
        raise Invalid("A service has a name and a plan.")
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await manage_service.change_service(conn, _service_id(request), wanted.model_dump())
    return see_other(request, f"{_URL}/{public_id('svc', row['id'])}", notice="Saved. Its keys may do this at once.")


async def add_key(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """A further key; it is in this answer, and nowhere else."""
    service_id = _service_id(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        if not await is_first(conn, viewer, fields):
            notice = "This key was made already, and shown then. If you did not see it, revoke it and make another."
            return see_other(request, f"{_URL}/{public_id('svc', service_id)}", notice=notice)
        _, key = await manage_service.add_key(conn, service_id)
        service = await manage_service.find_service(conn, service_id)
    return show_key(request, viewer, service, key, f"A further key of {service['name']}")


async def revoke_key(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Make a key invalid at once; asks first."""
    service_id, key_id = _service_id(request), parse_id("key", request.match_info["key_id"])
    back = f"{_URL}/{public_id('svc', service_id)}"
    if "confirmed" not in fields:
        return await _ask_about_key(request, viewer, service_id, key_id, back)
    async with request.app[CONTEXT].database.transaction() as conn:
        await manage_service.revoke_key(conn, service_id, key_id)
    return see_other(request, back, notice="Revoked. Calls with this key are refused from now on.")


async def _ask_about_key(
    request: web.Request, viewer: Viewer, service_id: UUID, key_id: UUID, back: str
) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        service = await manage_service.find_service(conn, service_id)
        keys = {key["id"]: key["hint"] for key in await services.list_keys(conn, service_id, _NONE, _MOST_KEYS)}
    if key_id not in keys:
        raise NotFound("This key is not valid any more: it was revoked before.")
    last = ["It is the only one: the service can do nothing until it has another."] if len(keys) == 1 else []
    return render(
        request, viewer, "confirm.html", title=f"Revoke the key …{keys[key_id]} of {service['name']}?",
        action=request.path, fields={"confirmed": "yes"}, button="Revoke this key", back=back, names=[],
        losses=[
            ("Every call with it is refused at once, the feed and the live stream end, and who is logged in to the"
            " console with it is logged out."),
            *last,
            "Deliveries to its endpoint go on: they are signed with another secret.",
        ],
    )  # fmt: skip


async def remove(request: web.Request, viewer: Viewer, fields: Fields) -> web.Response:
    """Remove a service from all numbers, with its keys; its name has to be typed."""
    context, service_id = request.app[CONTEXT], _service_id(request)
    if "confirmed" not in fields:
        return await _ask_about_removal(request, viewer, service_id)
    async with context.database.transaction() as conn:
        row = await manage_service.find_service(conn, service_id)
        if fields.get("typed", "").strip() != row["name"]:
            raise Invalid(f"The name was not typed as it is: {row['name']}. Nothing was removed.")
        events = await manage_service.remove_service(conn, service_id, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return see_other(request, _URL, notice=f"{row['name']} was removed. What it wrote stays in the conversations.")


async def _ask_about_removal(request: web.Request, viewer: Viewer, service_id: UUID) -> web.Response:
    async with request.app[CONTEXT].database.reading() as conn:
        row = await manage_service.find_service(conn, service_id)
        own = await subscriptions.list_of_service(conn, service_id)
        connections = await view_deliveries(conn, [each["id"] for each in own])
    return render(
        request, viewer, "confirm.html", title=f"Remove {row['name']}?", action=request.path,
        fields={"confirmed": "yes"}, button="Remove this service", names=[], typed=row["name"],
        back=f"{_URL}/{public_id('svc', service_id)}", losses=_removal(row["name"], connections),
    )  # fmt: skip


def _removal(name: str, connections: list[Mapping[str, Any]] | list[dict[str, Any]]) -> list[str]:
    """What happens when a service is removed (A4, A5)."""
    told = ["All its keys are invalid at once. This cannot be undone: a service of the same name is another one."]
    for each in connections:
        heir = (
            " It is the parent there: the longest-connected other service becomes it."
            if each["role"] == "parent"
            else ""
        )
        told.append(f"It leaves {each['number']}: nothing more is delivered to it.{heir}")
    if connections:
        told.append("Its agents' pick-ups are released, its waiting automation is cancelled, its replays end, and its"
                    " dead letters are dropped.")  # fmt: skip
    return [*told, f"What {name} wrote stays in the conversations, and queued replies of its agents are still sent."]
