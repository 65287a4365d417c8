"""Every answer that a hub in this process gives is held against its OpenAPI document: status, media type, headers,
codes and schema, in every test that opens one; and so is every webhook that comes to a test's endpoint. What does not
fit is kept, and the test that was running fails.

The hub knows nothing of it: the application gets one middleware more when it is built here.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import jsonschema_rs
import orjson
from aiohttp import web

import hub.app
from hub.http.docs_pages import add_routes, document_of
from hub.http.openapi import routes_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Schema = dict[str, Any]

_MADE_UP = b'"filler":'
"""In events that tests put into the log themselves."""

faults: list[str] = []
"""What did not fit, since it was looked at last."""


class Contract:
    """A document, with its schemas compiled as they are needed."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self._schemas = {"schemas": document["components"]["schemas"]}
        self._compiled: dict[int, jsonschema_rs.Validator] = {}

    def check(self, method: str, path: str, answer: web.StreamResponse) -> None:
        """Note what the document does not say of this answer; `path` as the router has it."""
        described = self.document["paths"].get(path, {}).get("get" if method == "HEAD" else method.lower())
        body = answer.body if isinstance(answer, web.Response) else None
        if described is None or answer.status == 500:  # of tests that break something on purpose
            return
        if isinstance(body, bytes) and _MADE_UP in body:
            return
        found = self._faults(described, answer, body if isinstance(body, bytes) and method != "HEAD" else None)
        faults.extend(f"{method} {path} {answer.status}: {fault}: {body!r:.1500}" for fault in found)

    def _faults(self, described: Schema, answer: web.StreamResponse, body: bytes | None) -> list[str]:
        told = described["responses"].get(str(answer.status))
        if told is None:
            return ["no such status in the document"]
        if "$ref" in told:
            told = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        found = [f"lacks the header {name}" for name in told.get("headers", ()) if name not in answer.headers]
        content = told.get("content", {})
        if not content:
            return [*found, "has a body"] if body else found
        if answer.content_type not in content and "*/*" not in content:
            return [*found, f"{answer.content_type} is not in the document"]
        schema = content.get(answer.content_type, {}).get("schema")
        return found + (self._unfit(schema, orjson.loads(body)) if schema and body is not None else [])

    def check_event(self, value: Any) -> None:
        """Note what the document does not say of this webhook."""
        described = self.document["webhooks"].get(value.get("type"))
        content = described["post"]["requestBody"]["content"]["application/json"] if described else {}
        found = self._unfit(content["schema"], value) if described else ["no such type in the document"]
        faults.extend(f"webhook {value.get('type')}: {fault}: {value!r:.1500}" for fault in found)

    def _unfit(self, schema: Schema, value: Any) -> list[str]:
        compiled = self._compiled.get(id(schema))
        if compiled is None:
            whole = {**schema, "components": self._schemas}
            compiled = self._compiled[id(schema)] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        if compiled.is_valid(value):
            return []
        return [f"{error.instance_path}: {error.message}"[:800] for error in compiled.iter_errors(value)]


@cache
def _contract_of(_: tuple[tuple[str, str, str], ...], app: "_Same") -> Contract:
    return Contract(document_of(app.app))


class _Same:
    """An application, like any other with the same routes: their documents are equal, and made once."""

    def __init__(self, app: web.Application) -> None:
        self.app = app

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same)


def contract_of(app: web.Application) -> Contract:
    """The contract of an application."""
    return _contract_of(tuple((r.path, r.method, r.operation.name) for r in routes_of(app)), _Same(app))


def watch(app: web.Application) -> web.Application:
    """Have every answer of an application checked."""
    contracts: list[Contract] = []

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if not contracts:
            contracts.append(contract_of(request.app))
        resource = request.match_info.route.resource
        if resource is not None:
            contracts[0].check(request.method, resource.canonical, answer)
        return answer

    app.middlewares.insert(0, check)
    return app


def hear(value: Any) -> None:
    """Check a webhook."""
    _webhooks().check_event(value)


@cache
def _webhooks() -> Contract:
    app = web.Application()
    add_routes(app)
    return Contract(document_of(app))


def install() -> None:
    """From now on every application that is built here is watched."""
    build = hub.app.build_app
    hub.app.build_app = lambda *given, **more: watch(build(*given, **more))


def told() -> list[str]:
    """What did not fit since this was asked last."""
    found = [*faults]
    faults.clear()
    return found
