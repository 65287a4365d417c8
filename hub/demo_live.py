"""The demo after its story: what a visitor can do, and live lines of what comes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from aiohttp import web
from rich.console import Console
from rich.markup import escape

from hub.demo_stage import MIA, NUMBER, OMAR, Heard, Stage
from providers.simulator import Customer, Person

_GATHER: Final = 0.3
"""Seconds to wait for the other services before a line is printed."""
_DAY: Final = 86_400.0


async def stay_up(console: Console, stage: Stage) -> None:
    """Let the visitor play, and print what happens, until cancelled: that ends the play, and is no error."""
    stage.parts["helpdesk"].backend.on_duty = True
    async with _doors(stage) as url:
        _print_guide(console, stage, url)
        lines = _Lines(console, stage)
        stage.on_heard = lines.add
        try:
            await lines.follow_sends()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        finally:
            stage.on_heard = lambda _: None


# The doors a visitor writes through ---------------------------------------------------------------------------------


@asynccontextmanager
async def _doors(stage: Stage) -> AsyncIterator[str]:
    """`POST /simulate/whatsapp` and `/simulate/sms` on a port of their own: a customer writes."""

    async def whatsapp(request: web.Request) -> web.Response:
        return await _speak(stage, request, MIA, {})

    async def sms(request: web.Request) -> web.Response:
        return await _speak(stage, request, OMAR, {"provider": "twilio", "medium": "sms"})

    app = web.Application()
    app.add_routes([web.post("/simulate/whatsapp", whatsapp), web.post("/simulate/sms", sms)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _speak(stage: Stage, request: web.Request, default: Person, medium: dict[str, Any]) -> web.Response:
    """Take `{text, from?, name?}` and post it to the hub as the provider would."""
    try:
        wanted = orjson.loads(await request.read() or b"{}")
        text, phone = str(wanted["text"]), str(wanted.get("from") or default.phone)
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        return web.json_response({"detail": 'send {"text": "...", "from": "+49...", "name": "..."}'}, status=422)
    person = default if phone == default.phone else Person(phone, name=wanted.get("name") or "Visitor")
    try:
        provider_id = await Customer(stage.simulator, person, NUMBER, **medium).says(text)
    except AssertionError as error:
        return web.json_response({"detail": str(error)}, status=502)
    return web.json_response({"from": phone, "provider_id": provider_id})


def _print_guide(console: Console, stage: Stage, url: str) -> None:
    def line(text: str = "") -> None:
        console.print(text, soft_wrap=True)

    hub, crm = stage.hub.url, stage.parts["CRM"]
    chat = next(h.conversation for h in reversed(crm.heard) if h.data.get("contact", {}).get("name") == "Mia")
    line("\n[b]It is yours now.[/] Ctrl-C ends it.\n")
    line(f"  hub        {hub}   admin key {stage.hub.admin_key}")
    line(f"  console    {hub}/console   (log in with the admin key, or with a service's: it sees what that may see)")
    line(f"  providers  {stage.simulator.url}   (Meta's and Twilio's APIs, simulated)")
    for part in stage.parts.values():
        line(f"  {part.name:<10} {part.url}   API key {part.key}")
    line(f"  shop       {stage.shop_url}   (a tracked site; its links are served at {stage.link_base})")
    line("\n[b]Write as a customer[/]; Ana of helpdesk answers:")
    line(f"""  curl -d '{{"text": "Hello!"}}' {url}/simulate/whatsapp""")
    line(f"""  curl -d '{{"text": "Hello!", "from": "+15550100077", "name": "Ada"}}' {url}/simulate/sms""")
    line("[b]Answer Mia as somebody of CRM[/]:")
    body = '{"origin": "agent", "agent": {"id": "ben", "name": "Ben"}, "type": "text", "text": "Hello Mia"}'
    line(f"""  curl -H 'Authorization: Bearer {crm.key}' -d '{body}' {hub}/v1/conversations/{chat}/messages""")
    line("[b]Read their chat as helpdesk[/], what CRM wrote is masked:")
    key = stage.parts["helpdesk"].key
    line(f"  curl -H 'Authorization: Bearer {key}' {hub}/v1/conversations/{chat}/messages")
    line("[b]See CRM's cards[/]:")
    line(f"  curl {crm.url}")
    marketing = stage.parts["marketing"].key
    line(
        "[b]Send Mia a tracked link as marketing[/]; open the one she reads in a browser, agree to tracking there, and"
        " look around:"
    )
    body = body.replace("ben", "tom").replace("Ben", "Tom").replace("Hello Mia", f"Look: {stage.shop_url}/")
    line(f"""  curl -H 'Authorization: Bearer {marketing}' -d '{body}' {hub}/v1/conversations/{chat}/messages""")
    line("[b]Then see her timeline[/]:")
    contact = next(h.data["contact"]["id"] for h in reversed(crm.heard) if h.conversation == chat)
    line(f"  curl -H 'Authorization: Bearer {marketing}' {hub}/v1/contacts/{contact}/timeline\n")


# Live lines ---------------------------------------------------------------------------------------------------------


class _Lines:
    """Prints one line per event, once every service has it or a moment has passed; and one per message shown."""

    def __init__(self, console: Console, stage: Stage) -> None:
        self._console = console
        self._stage = stage
        self._heard: dict[str, list[Heard]] = {}

    def add(self, heard: Heard) -> None:
        """A service heard something."""
        known = self._heard.setdefault(heard.id, [])
        known.append(heard)
        if len(known) == len(self._stage.parts):
            self._print(heard.id)
        elif len(known) == 1:
            asyncio.get_running_loop().call_later(_GATHER, self._print, heard.id)

    def _print(self, event_id: str) -> None:
        if heard := self._heard.pop(event_id, None):
            ways = " · ".join(f"[cyan]{h.service}[/] {h.late * 1000:.1f} ms{_mask(h)}" for h in heard)
            self._console.print(f"{_told(heard)} [dim]──▶[/] {ways}")

    async def follow_sends(self) -> None:
        """Print what the providers deliver, from now on and without end."""
        sent = self._stage.simulator.sent
        told = len(sent)
        while True:
            await self._stage.simulator.wait_for(lambda: len(sent) > told, _DAY)  # noqa: B023 - waited for here
            for send in sent[told:]:
                text = escape(send.text or send.type)
                self._console.print(f"[green]{send.provider.title()}[/] [dim]──▶[/] {send.to} reads “{text}”")
            told = len(sent)


def _mask(heard: Heard) -> str:
    return " [dim]masked[/]" if heard.message.get("masked") else ""


def _told(heard: list[Heard]) -> str:
    """An event in words, by the fullest of what was heard of it."""
    fullest = min(heard, key=lambda h: bool(h.message.get("masked")))
    message, kind = fullest.message, fullest.type
    if not message or "direction" not in message:
        return f"[b]{kind}[/]"
    contact = fullest.data["contact"]
    customer = f"[yellow]{escape(contact['name'] or contact['addresses'][0]['value'])}[/]"
    text = escape(f"“{message.get('text', message['type'])}”")
    if message["direction"] == "inbound":
        return f"{customer} ({message['medium']}) {text}"
    author = f"[magenta]{escape((message.get('agent') or {}).get('name') or message['origin'])}[/]"
    if kind == "message.queued":
        return f"{author} ([cyan]{message['author']['name']}[/]) to {customer} {text}"
    return f"{author} to {customer}: [green]{message['status']}[/]"
