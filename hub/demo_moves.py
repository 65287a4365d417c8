"""What the demo's steps are made of: people write and answer, and all that must come of it is checked.

Each gives the lines that tell it: who, through what, to whom, and how long after the beginning each had it.
"""

import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

from rich.markup import escape

from hub.demo_stage import Heard, Part, Stage, require
from providers.simulator import Customer

ARROW: Final = "[dim]──▶[/]"
_STATUSES: Final = {"whatsapp": ["sent", "delivered", "read"], "sms": ["sent", "delivered"]}

Lines = list[str]


async def writes(stage: Stage, customer: Customer, text: str, *, among: list[Part] | None = None) -> Lines:
    """A customer writes, and every service hears the full text."""
    began = time.perf_counter()
    provider_id = await customer.says(text)
    taken = time.perf_counter() - began
    heard = await stage.all_hear("message.received", among=among, provider_id=provider_id)
    for one in heard:
        require(one.message["text"] == text, f"{one.service} reads the full text")
    return [f"{_who(customer)} “{escape(text)}” {ARROW} hub {ms(taken)} {ARROW} {_times(heard, began)}"]


async def replies(stage: Stage, part: Part, agent: str, text: str, customer: Customer) -> Lines:
    """An agent replies; the customer gets it exactly once."""
    conversation = chat_of(part, customer)
    began = time.perf_counter()
    answer = await part.backend.reply(conversation, text, agent=agent, once=str(uuid4()))
    taken = time.perf_counter() - began
    send = await customer.hears()
    shown = time.perf_counter() - began
    require(send.text == text, f"{customer.person.name} reads what {agent} wrote")
    lines = await _masked(stage, part, answer["message"]["id"], text, began)
    statuses = await await_statuses(stage, answer["message"]["id"], customer.medium, began)
    times = sum(send.text == text for send in customer.received)
    require(times == 1, f"{customer.person.name} gets it once, not {times} times")
    way = f"[magenta]{agent}[/] ([cyan]{part.name}[/]) “{escape(text)}” {ARROW} hub {ms(taken)}"
    return [f"{way} {ARROW} {send.provider.title()} {ARROW} {_who(customer)} {ms(shown)}", *lines, statuses]


async def ana_answers(stage: Stage, customer: Customer, text: str) -> Lines:
    """A customer writes while Ana is on duty: the example answers by itself."""
    helpdesk = stage.parts["helpdesk"]
    helpdesk.backend.on_duty = True
    try:
        began = time.perf_counter()
        written = await writes(stage, customer, text)
        send = await customer.hears()
        shown = time.perf_counter() - began
    finally:
        helpdesk.backend.on_duty = False
    require("this is Ana" in (send.text or ""), f"Ana's words arrive, not {send.text!r}")
    require(send.hub_id is not None, "the provider was given the hub's id")
    lines = await _masked(stage, helpdesk, str(send.hub_id), send.text or "", began)
    statuses = await await_statuses(stage, str(send.hub_id), customer.medium, began)
    way = f"[magenta]Ana[/] ([cyan]helpdesk[/]) “{escape(send.text or '')}”"
    return [*written, f"{way} {ARROW} {send.provider.title()} {ARROW} {_who(customer)} {ms(shown)}", *lines, statuses]


async def _masked(stage: Stage, author: Part, message_id: str, text: str, began: float) -> Lines:
    """The author's service sees its message in full, the others masked."""
    heard = await stage.all_hear("message.queued", id=message_id)
    for one in heard:
        is_author = one.service == author.name
        require(one.message.get("text") == (text if is_author else None), f"{one.service} sees the text, or not")
        require(one.message.get("masked", False) is not is_author, f"{one.service} is told that it is masked, or not")
        require(one.message["author"]["name"] == author.name, f"{one.service} sees who wrote it")
        require("masked" not in one.message or text not in str(one.data), f"{one.service} finds the text nowhere")
    return [f"{ARROW} {_times(heard, began)}"]


async def await_statuses(stage: Stage, message_id: str, medium: str, began: float | None = None) -> str:
    """Everyone hears how far it got, in order."""
    steps = _STATUSES[medium]
    await stage.all_hear("message.status", id=message_id, status=steps[-1])
    for part in everyone(stage):
        heard = [h.message["status"] for h in part.of("message.status", id=message_id)]
        require([status for status in heard if status in steps] == steps, f"{part.name} hears {steps}, not {heard}")
    first = everyone(stage)[0].of("message.status", id=message_id)
    times = [f"{h.message['status']} {ms(h.at - (began or h.at))}" for h in first if h.message["status"] in steps]
    return f"[green]✓[/] {' · '.join(times)}, heard by all"


async def bot_says(stage: Stage, part: Part, text: str) -> tuple[int, Any]:
    """A service's chatbot speaks to Mia."""
    conversation = chat_of(part, stage.mia)
    body = {"origin": "chatbot", "type": "text", "text": text}
    return await stage.call("POST", f"/v1/conversations/{conversation}/messages", body, key=part.key)


def chat_of(part: Part, customer: Customer) -> str:
    """The conversation with a customer, as this service knows it."""
    return next(h.conversation for h in part.of("message.received") if _is_with(h, customer))


def _is_with(heard: Heard, customer: Customer) -> bool:
    """Whether it is about this customer, on this medium: an SMS knows no name."""
    values = {address["value"] for address in heard.data["contact"]["addresses"]}
    return heard.message["medium"] == customer.medium and bool(values & customer.person.addresses)


def everyone(stage: Stage) -> list[Part]:
    """All services, in the order in which they connected first."""
    return list(stage.parts.values())


def _who(customer: Customer) -> str:
    return f"[yellow]{customer.person.name}[/] ({'WhatsApp' if customer.medium == 'whatsapp' else 'SMS'})"


def _times(heard: Sequence[Heard], began: float) -> str:
    return " · ".join(
        f"[cyan]{h.service}[/] {ms(h.at - began)}{' [dim]masked[/]' if h.message.get('masked') else ''}" for h in heard
    )


def ms(seconds: float) -> str:
    """Seconds, as milliseconds to read."""
    return f"[b]{seconds * 1000:.1f}[/] ms"
