"""The documents of the project (docs/*.md): where they are, and as HTML."""

import re
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Final

import orjson
from markdown_it import MarkdownIt
from markdown_it.token import Token

_CHECKOUT: Final = Path(__file__).parents[2]
_FIRST: Final = (
    "README",
    "rules",
    "api",
    "events",
    "errors",
    "client",
    "cli",
    "providers",
    "links",
    "tracker",
    "operations",
)
"""The order of the pages; others come behind them."""
_OPERATION: Final = re.compile(r"^### `([A-Z]+) (/[^`]*)`$", re.MULTILINE)
_JSON: Final = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REFERENCE: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Page:
    """A document as HTML, with its headings of the second level: text and anchor."""

    name: str
    title: str
    html: str
    contents: list[tuple[str, str]]


def find_docs() -> Path | None:
    """The folder of the documents: of the checkout, or of the installed wheel; None: neither is here."""
    installed = Path(sysconfig.get_path("data")) / "share" / "partyline" / "docs"
    places = (_CHECKOUT / "docs", installed) if (_CHECKOUT / "pyproject.toml").exists() else (installed,)
    return next((place for place in places if (place / "api.md").exists()), None)


@cache
def page_names() -> list[str]:
    """The names of all pages, those in folders included: `adr/0001-...`."""
    folder = find_docs()
    if folder is None:
        return []
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.md"))
    return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), "/" in name, name))


@cache
def read_page(name: str) -> Page | None:
    """A page; None: there is no such page. What is asked for is looked up, never put into a path."""
    folder = find_docs()
    if folder is None or name not in page_names():
        return None
    tokens = _PARSER.parse((folder / f"{name}.md").read_text(encoding="utf-8"))
    headings = list(_with_anchors(tokens))
    _mend_links(tokens, PurePosixPath(name).parent)
    title = next((text for tag, text, _ in headings if tag == "h1"), name)
    contents = [(text, anchor) for tag, text, anchor in headings if tag == "h2"]
    return Page(name, title, _PARSER.renderer.render(tokens, _PARSER.options, {}), contents)


def inline(text: str) -> str:
    """A line of Markdown as HTML, such as a description in the document of the API."""
    return str(_PARSER.renderInline(text))


def markdown(text: str) -> str:
    """A text of ours as HTML."""
    return str(_PARSER.render(text))


@cache
def read_examples() -> Mapping[tuple[str, str], list[Any]]:
    """The JSON that `docs/api.md` shows under each operation, by method and path."""
    folder = find_docs()
    if folder is None:
        return {}
    parts = _OPERATION.split((folder / "api.md").read_text(encoding="utf-8"))
    found = {}
    for method, path, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        own = re.split(r"^#{1,3} ", text, maxsplit=1, flags=re.MULTILINE)[0]
        found[method, path.partition("?")[0]] = [value for code in _JSON.findall(own) for value in _parsed(code)]
    return found


def _parsed(code: str) -> list[Any]:
    try:
        return [orjson.loads(code)]
    except orjson.JSONDecodeError:  # one that leaves something out
        return []


# Markdown -----------------------------------------------------------------------------------------------------------


def _parser() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False}).enable("table")
    made.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>')
    made.add_render_rule("table_close", lambda *_: "</table></div>")
    made.add_render_rule("fence", _fence)
    return made


def _fence(_: Any, tokens: list[Token], index: int, *__: Any) -> str:
    """What is wider than the page is scrolled by itself, with the keyboard, too."""
    text = tokens[index].content.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<pre tabindex="0"><code>{text}</code></pre>\n'


_PARSER: Final = _parser()


def slug(heading: str) -> str:
    """The anchor that Git hosts give a heading."""
    bare = _REFERENCE.sub(r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", bare).replace(" ", "-")


def _with_anchors(tokens: list[Token]) -> Iterator[tuple[str, str, str]]:
    """Gives every heading an anchor; tells its tag, text and anchor."""
    taken: set[str] = set()
    for opening, content in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        anchor = wanted = slug(content.content)
        number = 1
        while anchor in taken:
            anchor, number = f"{wanted}-{number}", number + 1
        taken.add(anchor)
        opening.attrSet("id", anchor)
        yield opening.tag, "".join(part.content for part in content.children or ()), anchor


def _mend_links(tokens: list[Token], folder: PurePosixPath) -> None:
    """Links between the files are links between the pages; to files that are no pages there are none."""
    for token in tokens:
        opened: list[Token] = []
        for part in token.children or ():
            if part.type == "link_open":
                opened.append(part)
                _mend(part, folder)
            elif part.type == "link_close" and opened:
                part.tag = opened.pop().tag


def _mend(link: Token, folder: PurePosixPath) -> None:
    target, _, anchor = str(link.attrGet("href") or "").partition("#")
    if not target or target.startswith(("https://", "http://", "/")):
        return
    steps: list[str] = []
    for step in (folder / target).parts:
        if step == ".." and steps:
            steps.pop()
        elif step != ".":
            steps.append(step)
    name = "/".join(steps).removesuffix(".md")
    if name in page_names():
        link.attrSet("href", f"/docs/{name}" + (f"#{anchor}" if anchor else ""))
    else:
        link.tag, link.attrs = "span", {}
