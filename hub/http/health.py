"""Is it alive, may it get traffic, what does it measure."""

import os
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from hub.domain.errors import Forbidden, Unavailable
from hub.http.answers.monitoring import Alive, NotReady, Ready
from hub.http.auth import is_operator
from hub.http.context import CONTEXT, Context
from hub.http.operations import Answer, operation
from hub.http.problems import answer
from hub.store.health import is_migrated

_SUMMED: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Set by prometheus_client's convention where several processes measure together."""


def add_routes(app: web.Application) -> None:
    """Put the paths of monitoring into the application."""
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", metrics)


@operation(answers={200: Alive}, tag="Monitoring")
async def alive(_: web.Request) -> web.Response:
    """The process answers."""
    return answer({"status": "alive"})


async def find_problems(context: Context) -> list[str]:
    """What keeps this process from being ready: loops that died, the database, migrations, its own end."""
    wrong = context.problems()
    try:
        async with context.database.reading() as conn:
            if not await is_migrated(conn):
                wrong.append("migrations")
    except Unavailable:
        wrong.append("database")
    if context.is_stopping.is_set():
        wrong.append("stopping")
    return wrong


@operation(answers={200: Ready, 503: Answer(NotReady, "Not now")}, tag="Monitoring")
async def ready(request: web.Request) -> web.Response:
    """Database there, migrations run, loops alive; else 503 and what is wrong."""
    wrong = await find_problems(request.app[CONTEXT])
    return answer({"status": "not_ready", "problems": wrong}, 503) if wrong else answer({"status": "ready"})


@operation(
    answers={200: Answer(text="Prometheus' text format", media_type="text/plain")},
    codes=("unauthorized", "operator_only"),
    scopes="Needs the operator's key, unless `PARTYLINE_OPEN_METRICS` is true.",
    tag="Monitoring",
)
async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics, with the operator's key unless configured open; of several processes their sum."""
    if not request.app[CONTEXT].is_metrics_open and not is_operator(request):
        raise Forbidden("metrics need the operator's key", code="operator_only")
    return web.Response(body=generate_latest(_registry()), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _registry() -> CollectorRegistry:
    if _SUMMED not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together
