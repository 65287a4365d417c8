"""The console as a browser without scripts uses it: pages are read, and their forms are sent as they stand there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

from tests.support.world import ADMIN, World


@dataclass
class Form:
    """A form of a page: where it goes, and what its fields hold as it is shown."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    boxes: set[str] = field(default_factory=set)


@dataclass
class Page:
    """An answer of the console: status, text as people read it, its forms and links."""

    status: int
    html: str
    headers: Mapping[str, str]
    url: str = ""
    text: str = ""
    forms: list[Form] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def form(self, action: str, **fields: str) -> Form:
        """The form that goes there and holds these fields."""
        found = [f for f in self.forms if f.action == action and fields.items() <= f.fields.items()]
        assert found, f"no form {action} {fields} among {[f.action for f in self.forms]}"
        return found[0]


_INLINE = frozenset({"a", "b", "br", "code", "i", "span", "strong", "time"})


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._form: Form | None = None
        self._select = ""
        self._area = ""
        self._code = 0
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self._words.append("" if tag in _INLINE else " ")
        if tag == "form":
            self._form = Form(has.get("action", ""), has.get("method", "get"))
            self._page.forms.append(self._form)
        elif tag == "a" and "href" in has:
            self._page.links.append(has["href"])
        elif tag == "code":
            self._code += 1
            self._page.codes.append("")
        if self._form is not None:
            self._field(tag, has)

    def _field(self, tag: str, has: dict[str, str]) -> None:
        assert self._form is not None
        name = has.get("name", "")
        if tag == "input" and has.get("type") in {"checkbox", "radio"}:
            self._form.boxes.add(name)
            if "checked" in has:
                self._form.fields[name] = has.get("value", "on")
        elif tag == "input" and name:
            self._form.fields[name] = has.get("value", "")
        elif tag == "textarea":
            self._area = name
            self._form.fields[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in has or self._select not in self._form.fields):
            self._form.fields[self._select] = has.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""
        elif tag == "code":
            self._code -= 1

    def handle_data(self, data: str) -> None:
        self._words.append(data)
        if self._code:
            self._page.codes[-1] += data
        if self._area and self._form is not None:
            self._form.fields[self._area] += data

    def close(self) -> None:
        super().close()
        self._page.text = " ".join("".join(self._words).split())


def read(status: int, html: str, headers: Mapping[str, str], url: str) -> Page:
    """Read a page."""
    page = Page(status, html, headers, url)
    reader = _Reader(page)
    reader.feed(html)
    reader.close()
    return page


@dataclass
class Visitor:
    """Somebody at the console, with a session cookie."""

    world: World
    cookie: str = ""

    async def get(self, path: str) -> Page:
        """A page; where it sends one on to, that."""
        headers = {"Cookie": self.cookie}
        async with self.world.session.get(self.world.hub.url + path, headers=headers, allow_redirects=False) as answer:
            if answer.status == 303:
                return await self.get(answer.headers["Location"])
            return read(answer.status, await answer.text(), answer.headers, path)

    async def post(self, path: str, fields: Mapping[str, str], follow: bool = True, **headers: str) -> Page:
        """Send fields as they are; gives the page that comes of it."""
        sent = {"Cookie": self.cookie, **headers}
        url = self.world.hub.url + path
        async with self.world.session.post(url, data=fields, headers=sent, allow_redirects=False) as answer:
            if answer.status == 303 and follow:
                return await self.get(answer.headers["Location"])
            return read(answer.status, await answer.text(), answer.headers, path)

    async def send(self, page: Page, action: str, change: Mapping[str, str | None] | None = None, **which: str) -> Page:
        """Send a form of a page (the one that holds the fields `which`) with these fields changed; None: left out."""
        form = page.form(action, **which)
        fields = {**form.fields, **(change or {})}
        return await self.post(action, {name: value for name, value in fields.items() if value is not None})

    async def fill(self, path: str, action: str, change: Mapping[str, str | None] | None = None, **which: str) -> Page:
        """Load a page, and send one of its forms."""
        return await self.send(await self.get(path), action, change, **which)


async def log_in(world: World, key: str = ADMIN) -> Visitor:
    """Log in with a key."""
    url = f"{world.hub.url}/console/login"
    async with world.session.post(url, data={"key": key}, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert urlsplit(answer.headers["Location"]).path == "/console"
    return Visitor(world, cookie)
