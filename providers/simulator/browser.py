"""A customer's browser: taps tracked links and visits tracked sites, whose tracker it plays (docs/tracker.md).

Names under `.localhost` are its own machine, as in real browsers; which host is meant stands in the `Host` header.
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

PHONE: Final = (
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0 Mobile "
    "Safari/537.36"
)
WHATSAPP_PREVIEW: Final = "WhatsApp/2.25.20 A"
_NAVIGATION: Final = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


@dataclass(frozen=True, slots=True)
class Seen:
    """An answer as the browser got it."""

    status: int
    location: str | None
    body: bytes


@dataclass
class Browser:
    """One browser with its cookies; `collector` is where the sites' trackers report to, such as the link host."""

    http: aiohttp.ClientSession
    collector: str
    agent: str = PHONE
    cookies: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    session: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    async def taps(self, url: str) -> Seen:
        """Tap a link: asks for it, and keeps the cookies; the redirect is for `visits`."""
        return await self._ask("GET", url, dict(_NAVIGATION))

    async def previews(self, url: str, agent: str = WHATSAPP_PREVIEW) -> Seen:
        """What the app that carries a message does before anybody taps it: no cookies, another agent."""
        headers = {"User-Agent": agent, "Host": urlsplit(url).netloc}
        async with self.http.get(_local(url), headers=headers, allow_redirects=False) as answer:
            return Seen(answer.status, answer.headers.get("Location"), await answer.read())

    async def visits(self, url: str, title: str = "") -> Seen:
        """Load a page of a tracked site and let its tracker report it."""
        began = time.monotonic()
        page = await self._ask("GET", url, dict(_NAVIGATION))
        event = {"type": "page", "kind": "load", "url": url, "title": title, "referrer": ""}
        await self.reports(url, event | {"age": int((time.monotonic() - began) * 500)})
        return page

    async def reports(self, url: str, *events: dict[str, Any]) -> Seen:
        """Report events from a page, as the tracker does once its visitor agreed."""
        parts = urlsplit(url)
        headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Content-Type": "text/plain;charset=UTF-8"}
        body = {"session": self.session, "consent": "granted", "events": events}
        return await self._ask("POST", f"{self.collector}/collect", headers, orjson.dumps(body))

    async def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Seen:
        parts = urlsplit(url)
        headers |= {"Host": parts.netloc, "User-Agent": self.agent}
        held = [f"{name}={value}" for (host, name), (value, path) in self.cookies.items()
                if host == parts.netloc and parts.path.startswith(path)]  # fmt: skip
        if held:
            headers["Cookie"] = "; ".join(held)
        async with self.http.request(method, _local(url), data=body, headers=headers, allow_redirects=False) as answer:
            for line in answer.headers.getall("Set-Cookie", []):
                self._keep(parts.netloc, line)
            return Seen(answer.status, answer.headers.get("Location"), await answer.read())

    def _keep(self, host: str, line: str) -> None:
        first, *rest = (part.strip() for part in line.split(";"))
        name, _, value = first.partition("=")
        said = {key.lower(): text for key, _, text in (part.partition("=") for part in rest)}
        if said.get("max-age") == "0":
            self.cookies.pop((host, name), None)
        else:
            self.cookies[host, name] = value, said.get("path", "/")


def _local(url: str) -> str:
    """The same address on this machine."""
    parts = urlsplit(url)
    return f"{parts.scheme}://127.0.0.1:{parts.port or 80}{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
