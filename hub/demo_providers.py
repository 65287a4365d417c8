"""The demo's story of what only a provider's owner can do: files are kept, and a second agent does not talk across."""

import struct
import time
import zlib
from typing import Final

from hub.demo_moves import ARROW, Lines, await_statuses, bot_says, everyone, ms, replies
from hub.demo_stage import MIA, NUMBER, Stage, require
from providers.simulator import Business

_SIZE: Final = 64


def _photo() -> bytes:
    """A square of one colour, as PNG."""
    rows = (b"\0" + b"\xc0\x60\x30" * _SIZE) * _SIZE
    parts = (
        (b"IHDR", struct.pack(">2I5B", _SIZE, _SIZE, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


async def photo_is_sent(stage: Stage) -> Lines:
    """A file of a customer is fetched at once, once, and kept; every service has an address of its own for it (E10)."""
    photo, began = _photo(), time.perf_counter()
    provider_id = await stage.mia.sends_file("image", photo, "image/png", caption="It came in pieces")
    heard = await stage.all_hear("message.received", provider_id=provider_id)
    addresses = [str(one.message["media"][0]["url"]) for one in heard]
    require(len(set(addresses)) == len(heard), "each service has an address of its own")
    for address in addresses:
        require(await stage.fetch(address) == (200, photo), "a service reads the photo")
    took = time.perf_counter() - began
    status, _ = await stage.fetch(addresses[0].partition("?")[0])
    require(status == 404, f"without a signature there is nothing: {status}")
    fetched = sum(file.downloads for file in stage.simulator.shelf.files.values())
    require(fetched == 1, f"the hub fetched it from Meta once, not {fetched} times")
    names = ", ".join(f"[cyan]{part.name}[/]" for part in everyone(stage))
    return [
        f"Mia sends a photo ({len(photo)} bytes) {ARROW} hub {ARROW} {names} read it {ms(took)}",
        "fetched from Meta once; the address without its signature: 404",
    ]


async def agent_of_meta(stage: Stage) -> Lines:
    """While Meta's own agent holds a conversation, bots wait; a person who answers takes it back (B7, E2)."""
    crm, helpdesk = stage.parts["CRM"], stage.parts["helpdesk"]
    await Business(stage.simulator, NUMBER).hands_over(MIA, "agent")
    await stage.until("all hear of it", lambda: all(p.of("conversation.handover") for p in everyone(stage)))
    status, answer = await bot_says(stage, crm, "How did we do?")
    told = [warning["code"] for warning in answer.get("warnings", ())]
    require(status == 202 and "conversation_held" in told, f"the bot's message waits: {status} {told}")
    count = len(stage.mia.received)
    lines = await replies(stage, helpdesk, "Ana", "I have sent you another pot.", stage.mia)
    send = await stage.mia.hears()
    require((send.text, len(stage.mia.received)) == ("How did we do?", count + 2), "the bot's message goes after Ana's")
    await await_statuses(stage, answer["message"]["id"], "whatsapp")
    holders = [heard.data["handover"]["holder"] for heard in crm.of("conversation.handover")]
    require(holders == ["external", "hub"], f"the conversation went there and back: {holders}")
    return [
        f"[cyan]CRM[/] bot {ARROW} hub: 202, [yellow]conversation_held[/], it waits",
        *lines,
        f"the conversation is ours again; then: bot {ARROW} Meta {ARROW} Mia",
    ]
