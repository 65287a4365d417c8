"""The simulator: both APIs on one loopback port, and the webhooks that follow from what they take."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from aiohttp import web

from providers.simulator import meta_webhooks, twilio_webhooks
from providers.simulator.faults import Fault
from providers.simulator.ledger import Attempt, Ledger, Number, ReadMark, SimulatedSend
from providers.simulator.limits import Limits
from providers.simulator.media_shelf import InboundFile, MediaFault, MediaShelf
from providers.simulator.meta_api import MetaApi
from providers.simulator.meta_extras import SimulatedUpload
from providers.simulator.posting import META_PATH, TWILIO_PATH, Posted, Poster
from providers.simulator.signing import Form
from providers.simulator.statuses import StatusPlan
from providers.simulator.twilio_api import TwilioApi

_USUAL_META_FAILURE = 131026
_MARKETING_STOPPED = 131050
_MAX_UPLOAD = 110 * 1024 * 1024
_USUAL_TWILIO_FAILURE = {"sms": 30003, "whatsapp": 63024}


class Simulator:
    """Meta and Twilio for one hub. Use as `async with Simulator(...) as simulator`, or `start` and `stop`.

    `url` serves as API URL of both providers. `hub_url` (settable later: the hub needs `url` first) is where webhooks
    go, `public_url` what Twilio signs over, if that is another. After each send follow the statuses of
    `status_plan`, unless `hub_url` is unset. Ids repeat with the same `seed`; `clock` gives unix seconds.
    """

    def __init__(
        self,
        *,
        numbers: Sequence[Number],
        hub_url: str | None = None,
        public_url: str | None = None,
        meta_app_secrets: Sequence[str] = ("simulated-app-secret",),
        meta_verify_token: str = "simulated-verify-token",  # noqa: S107
        meta_access_token: str = "simulated-access-token",  # noqa: S107
        twilio_account_sid: str = "AC00000000000000000000000000000001",
        twilio_auth_token: str = "simulated-auth-token",  # noqa: S107
        status_plan: StatusPlan | None = None,
        seed: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.numbers = tuple(numbers)
        self.meta_app_secrets = tuple(meta_app_secrets)
        self.meta_verify_token = meta_verify_token
        self.meta_access_token = meta_access_token
        self.twilio_account_sid = twilio_account_sid
        self.twilio_auth_token = twilio_auth_token
        self.status_plan = StatusPlan() if status_plan is None else status_plan
        self.posted: list[Posted] = []
        self.loses_twilio_webhooks = False
        self.ledger = Ledger(seed, clock)
        self.shelf = MediaShelf(self.ledger)
        self.limits = Limits()
        self.meta_api = MetaApi(
            self.ledger,
            self.numbers,
            access_token=meta_access_token,
            app_secrets=self.meta_app_secrets,
            on_taken=self._taken,
            shelf=self.shelf,
            limits=self.limits,
        )
        self.twilio_api = TwilioApi(
            self.ledger,
            self.numbers,
            account_sid=twilio_account_sid,
            auth_token=twilio_auth_token,
            on_taken=self._taken,
            shelf=self.shelf,
            limits=self.limits,
        )
        self.meta_api.nodes.hub_callback = lambda: self._callback(META_PATH)
        self.twilio_api.nodes.hub_callback = lambda: self._callback(TWILIO_PATH)
        self._poster = Poster(self.meta_app_secrets[0], twilio_auth_token)
        self._poster.hub_url, self._poster.public_url = hub_url, public_url
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._url = ""

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one."""
        app = web.Application(client_max_size=_MAX_UPLOAD)
        app.add_routes([*self.meta_api.routes(), *self.twilio_api.routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self._url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """End what is under way and stop listening."""
        self.ledger.stopping.set()
        self.ledger.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._poster.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Base URL of both APIs."""
        return self._url

    @property
    def hub_url(self) -> str | None:
        """Where webhooks go."""
        return self._poster.hub_url

    @hub_url.setter
    def hub_url(self, value: str | None) -> None:
        self._poster.hub_url = value

    @property
    def public_url(self) -> str | None:
        """What Twilio signs over; None: `hub_url`."""
        return self._poster.public_url

    @public_url.setter
    def public_url(self, value: str | None) -> None:
        self._poster.public_url = value

    @property
    def poster(self) -> Poster:
        """How webhooks are posted: as JSON, signed with a shared key..."""
        return self._poster

    @property
    def sent(self) -> list[SimulatedSend]:
        """Every message taken, in order."""
        return self.ledger.sent

    @property
    def attempts(self) -> list[Attempt]:
        """Every authorised request to send, taken or not."""
        return self.ledger.attempts

    @property
    def read_marks(self) -> list[ReadMark]:
        """Every message marked as read, in order, typing indicators among them."""
        return self.ledger.read_marks

    @property
    def templates(self) -> list[Mapping[str, Any]]:
        """Meta's templates, as Graph lists them; may be replaced. Without any, every template may be sent."""
        return self.meta_api.extras.templates

    @templates.setter
    def templates(self, value: Sequence[Mapping[str, Any]]) -> None:
        self.meta_api.extras.templates = list(value)

    @property
    def uploads(self) -> Mapping[str, SimulatedUpload]:
        """The files that Meta keeps, by their ids."""
        return self.meta_api.extras.media

    @property
    def media(self) -> Mapping[str, InboundFile]:
        """The files of customers, by their ids at Meta."""
        return self.shelf.files

    def add_inbound_media(self, content: bytes, mime_type: str, filename: str | None = None) -> str:
        """Keep a customer's file, to be named in a message; gives its id (Meta's; Twilio's is made of it)."""
        return self.shelf.add(content, mime_type, filename).id

    def fail_next_media(self, fault: MediaFault, times: int = 1) -> None:
        """Let the next downloads (or look-ups, as the fault is of) of customers' files meet this fault."""
        self.shelf.faults.extend([fault] * times)

    @property
    def opted_out(self) -> set[tuple[str, str]]:
        """Pairs (customer's phone, number) between which Twilio refuses to send SMS, with 21610."""
        return self.twilio_api.opted_out

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return self.ledger.in_flight

    @property
    def peak(self) -> int:
        """The most there ever were at once."""
        return self.ledger.peak

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Let the next sends meet this fault, after those already lined up."""
        self.ledger.faults.extend([fault] * times)

    def fail_next_asked(self, fault: Fault, times: int = 1) -> None:
        """The same for requests that send nothing: read marks, uploads, lists."""
        self.ledger.faults_when_asked.extend([fault] * times)

    def hold(self) -> None:
        """Let requests wait, unanswered, until `release`."""
        self.ledger.hold()

    def release(self) -> None:
        """Answer them."""
        self.ledger.release()

    async def wait_for(self, predicate: Callable[[], bool], timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Return once `predicate` holds, asked whenever something was asked, sent or posted. Raises `TimeoutError`."""
        await self.ledger.wait_for(predicate, timeout)

    async def settle(self) -> None:
        """Wait until all status callbacks that are due are posted."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def handshake(self) -> bool:
        """Register the webhook as Meta does; True if the hub answers rightly."""
        return await self._poster.handshake(self.meta_verify_token)

    async def post_meta(self, body: Mapping[str, Any] | bytes, *, app_secret: str | None = None) -> Posted:
        """Post a body to the hub as Meta; another `app_secret` signs it during rotation, or wrongly."""
        return self._record(await self._poster.meta(body, app_secret=app_secret))

    async def post_twilio(self, form: Form, url: str = TWILIO_PATH, *, auth_token: str | None = None) -> Posted:
        """Post a form to the hub as Twilio, to a path or a status callback's URL.

        Nothing is posted while `loses_twilio_webhooks`: as if nobody had listened, twice.
        """
        if self.loses_twilio_webhooks:
            return self._record(Posted(url, None, 2))
        return self._record(await self._poster.twilio(url, form, auth_token=auth_token))

    async def report(self, send: SimulatedSend, step: str, *, error_code: int | None = None) -> None:
        """Post one status of a message; nothing where Twilio was given no callback."""
        if send.provider == "meta":
            await self.post_meta(self._meta_status(send, step, error_code))
            return
        if step == "failed" and error_code is None:
            error_code = _USUAL_TWILIO_FAILURE[send.medium]
        self.twilio_api.set_status(send.provider_id, step, error_code)
        if send.status_url is None:
            return
        form = twilio_webhooks.status(
            step,
            number=send.number,
            to=send.to,
            medium=send.medium,
            account_sid=self.twilio_account_sid,
            sid=send.provider_id,
            error_code=error_code,
        )
        await self.post_twilio(form, send.status_url)

    def _callback(self, path: str) -> str:
        return f"{self.public_url or self.hub_url or ''}{path}"

    def _meta_status(self, send: SimulatedSend, step: str, error_code: int | None) -> dict[str, Any]:
        if step == "failed" and error_code is None:
            error_code = _USUAL_META_FAILURE
        item = meta_webhooks.status(
            step,
            message_id=send.provider_id,
            to=self.meta_api.wa_ids.get(send.to, send.to),
            at=self.ledger.clock(),
            hub_id=send.hub_id,
            error_code=error_code,
        )
        return meta_webhooks.batch([meta_webhooks.Entry(send.number, item)])

    def _record(self, posted: Posted) -> Posted:
        self.posted.append(posted)
        self.ledger.changed()
        return posted

    async def _taken(self, send: SimulatedSend) -> None:
        if self.hub_url is None:
            return
        plan = self.status_plan
        if send.provider == "meta" and not self.meta_api.wants(send):
            plan = replace(plan, steps=("failed",), error_code=_MARKETING_STOPPED)
        if plan.before_answer:
            await self._follow(plan, send)
            return
        task = asyncio.create_task(self._follow(plan, send))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, plan: StatusPlan, send: SimulatedSend) -> None:
        for step in plan.steps:
            if plan.delay:
                await asyncio.sleep(plan.delay)
            if step == "read" and send.medium == "sms":
                continue
            await self.report(send, step, error_code=plan.error_code if step == "failed" else None)
