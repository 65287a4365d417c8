"""The operator's look at what is fetched from providers' lists, and fetching it now (rule B3)."""

from aiohttp import web

from hub.actions.reconcile import Round
from hub.domain.errors import Unavailable
from hub.http.answers.reconciliation import Reconciled, ReconciliationState
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.problems import answer
from hub.store import reconciliations

_PATH = "/v1/admin/reconciliation"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    app.router.add_get(_PATH, operator(get_reconciliation))
    app.router.add_post(_PATH, operator(post_reconciliation))


@operation(answers={200: ReconciliationState})
async def get_reconciliation(request: web.Request) -> web.Response:
    """How far each provider's list was compared with what came by webhook, and how the last round went."""
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await reconciliations.list_marks(conn)
    return answer({"providers": [dict(row) for row in rows]})


@operation(answers={200: Reconciled}, codes=("provider_unavailable",))
async def post_reconciliation(request: web.Request) -> web.Response:
    """Compare now, and tell what was missing."""
    rounds = await request.app[CONTEXT].reconcile()
    for done in rounds:
        if done.outcome not in {"done", "not_configured"}:
            raise _refusal(done)
    names = ("provider", "outcome", "since", "until", "listed", "taken")
    return answer({"providers": [{name: getattr(done, name) for name in names} for done in rounds]})


def _refusal(done: Round) -> Unavailable:
    if done.outcome == "provider_unavailable":
        return Unavailable(
            f"{done.provider} could not be asked for its list ({done.detail}): nothing is lost, the same is asked again"
            " (rule B3). Try again in a moment.",
            code="provider_unavailable",
            provider=done.provider,
            reason=done.detail,
        )
    return Unavailable(
        f"The list of {done.provider} could not be compared: {done.detail} (rule B3). Try again in a moment.",
        provider=done.provider,
    )
