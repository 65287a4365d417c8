"""Refusals as problem+json (RFC 9457), made here and nowhere else (rule H1)."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import hdrs, web
from pydantic import ValidationError

from hub.domain.errors import Fault, Invalid, NotFound, Refusal, TooLarge, Unavailable
from hub.store.pool import BadData, TryAgain

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(
        body=orjson.dumps(data, option=_JSON), status=status, content_type="application/json", headers=headers
    )


def problem(refusal: Refusal) -> web.Response:
    """The problem document of a refusal."""
    document: dict[str, Any] = {
        "type": f"/docs/errors#{refusal.code}",
        "title": _title(refusal.code),
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.detail,
        "errors": [{"pointer": f.pointer, "code": f.code, "detail": f.detail} for f in refusal.errors],
        **refusal.facts,
    }
    headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
    if "retry_after" in refusal.facts:
        headers["Retry-After"] = str(refusal.facts["retry_after"])
    elif refusal.status == 503:
        headers["Retry-After"] = "5"
    return web.Response(
        body=orjson.dumps(document, option=_JSON),
        status=refusal.status,
        content_type="application/problem+json",
        headers=headers,
    )


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()


def invalid(error: ValidationError) -> Invalid:
    """All faults of a body at once."""
    faults = [
        Fault("/" + "/".join(str(part) for part in fault["loc"]), fault["type"], fault["msg"])
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Invalid(f"the request has {len(faults)} fault{'s' if len(faults) > 1 else ''}", errors=faults)


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers raise into answers; never a stack trace."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem(refusal)
    except ValidationError as error:
        return problem(invalid(error))
    except TryAgain:
        return problem(Unavailable("too much is happening at once; try again"))
    except BadData as error:
        log.warning("request.bad_data", method=request.method, path=request.path, error=str(error))
        return problem(Invalid("the request holds a value that cannot be stored or compared"))
    except web.HTTPRequestEntityTooLarge:
        return problem(TooLarge("the body is over the limit"))
    except web.HTTPException as error:
        return _refused_by_http(request, error)
    except Exception:
        log.exception("request.failed", method=request.method, path=request.path)
        broken = Refusal("the hub failed on this request; the log says more", code="internal")
        broken.status = 500
        return problem(broken)


def _refused_by_http(request: web.Request, error: web.HTTPException) -> web.Response:
    """What aiohttp refuses; with the header that names what is allowed instead (RFC 9110, 15.5.6)."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        refusal = Refusal(f"{request.method} is not known here, but {allowed}.", code="method_not_allowed")
    elif isinstance(error, web.HTTPNotFound):
        refusal = NotFound("There is no such path: /openapi.json has all of them.")
    else:
        refusal = Refusal(error.reason)
    refusal.status = error.status
    response = problem(refusal)
    if hdrs.ALLOW in error.headers:
        response.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    return response
