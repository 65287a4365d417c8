"""The files customers send, as the providers keep them for a while, and what can go wrong with fetching them."""

import asyncio
import base64
import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Literal, Self

from aiohttp import web

from providers.simulator.ledger import Ledger

MediaKind = Literal["slow", "status", "cut", "chunked", "wrong_size", "address", "redirect"]
_AT_LOOKUP = ("wrong_size", "address")


@dataclass(frozen=True, slots=True)
class MediaFault:
    """One misbehaviour of a download, or (`wrong_size`, `address`) of the look-up before it at Meta."""

    kind: MediaKind
    seconds: float = 0.0
    status: int = 503
    url: str = ""

    @classmethod
    def slow(cls, seconds: float) -> Self:
        """Half of the file, a pause, and the rest."""
        return cls("slow", seconds=seconds)

    @classmethod
    def failing(cls, status: int = 503) -> Self:
        """A bare status, such as a 5xx."""
        return cls("status", status=status)

    @classmethod
    def cut(cls) -> Self:
        """Half of what was announced, then the connection is gone."""
        return cls("cut")

    @classmethod
    def chunked(cls) -> Self:
        """The whole file, with no length announced."""
        return cls("chunked")

    @classmethod
    def wrong_size(cls) -> Self:
        """Meta's look-up tells another size than the file has."""
        return cls("wrong_size")

    @classmethod
    def address(cls, url: str) -> Self:
        """Meta's look-up names this address instead of its own."""
        return cls("address", url=url)

    @classmethod
    def redirect(cls, url: str) -> Self:
        """The download leads to another address."""
        return cls("redirect", url=url)


@dataclass(slots=True)
class InboundFile:
    """A customer's file, known to Meta under `id` and to Twilio under `twilio_sid`; how often it was asked for.

    `downloads` counts answers with all of it; an `is_expired` one is gone.
    """

    id: str
    content: bytes
    mime_type: str
    filename: str | None = None
    is_expired: bool = False
    lookups: int = 0
    requests: int = 0
    downloads: int = 0

    @property
    def twilio_sid(self) -> str:
        """The id in Twilio's form."""
        return twilio_media_sid(self.id)

    @property
    def sha256(self) -> str:
        """The hash as Meta's look-up tells it: hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def sha256_base64(self) -> str:
        """The hash as Meta's webhooks tell it."""
        return base64.b64encode(hashlib.sha256(self.content).digest()).decode()


class MediaShelf:
    """All files of customers by id; `faults` meet the next requests in order.

    `leaked` counts credentials that came to an address which needs none.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.files: dict[str, InboundFile] = {}
        self.faults: deque[MediaFault] = deque()
        self.leaked = 0

    def add(self, content: bytes, mime_type: str, filename: str | None = None) -> InboundFile:
        """Keep a file, under a new id."""
        file = InboundFile(self._ledger.media_id(), content, mime_type, filename)
        self.files[file.id] = file
        return file

    def find(self, media_id: str) -> InboundFile | None:
        """The file with this id, in Meta's or Twilio's form, if it is still there."""
        file = self.files.get(media_id.removeprefix("ME").lstrip("0") if media_id.startswith("ME") else media_id)
        return None if file is None or file.is_expired else file

    def fault_at_lookup(self) -> MediaFault | None:
        """The fault a look-up is to meet."""
        return self.faults.popleft() if self.faults and self.faults[0].kind in _AT_LOOKUP else None

    async def serve(self, request: web.Request, file: InboundFile) -> web.StreamResponse:
        """Answer a download, as the next fault wants it."""
        file.requests += 1
        fault = self.faults.popleft() if self.faults and self.faults[0].kind not in _AT_LOOKUP else None
        self._ledger.changed()
        if fault is not None and fault.kind == "redirect":
            return web.Response(status=302, headers={"Location": fault.url})
        if fault is not None and fault.kind == "status":
            return web.Response(status=fault.status)
        answer = await _stream(request, file, fault, self._ledger.stopping)
        if fault is None or fault.kind != "cut":
            file.downloads += 1
        self._ledger.changed()
        return answer


def twilio_media_sid(media_id: str) -> str:
    """An id of Meta's form (digits) in Twilio's."""
    return f"ME{media_id:0>32}"


async def _stream(
    request: web.Request, file: InboundFile, fault: MediaFault | None, stopping: asyncio.Event
) -> web.StreamResponse:
    kind = fault.kind if fault is not None else None
    answer = web.StreamResponse(headers={"Content-Type": file.mime_type})
    if file.filename:
        answer.headers["Content-Disposition"] = f'attachment; filename="{file.filename}"'
    if kind != "chunked":
        answer.content_length = len(file.content)
    await answer.prepare(request)
    half = len(file.content) // 2
    await answer.write(file.content[:half])
    if kind == "cut":
        if request.transport is not None:
            request.transport.abort()
        return answer
    if fault is not None and kind == "slow":
        try:
            async with asyncio.timeout(fault.seconds):
                await stopping.wait()
        except TimeoutError:
            pass
    await answer.write(file.content[half:])
    await answer.write_eof()
    return answer
