"""Links in texts as people write them: where each begins and ends, and what a replacement leaves alone."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.domain import urls
from hub.domain.untracked import why_untracked
from hub.domain.urls import Found, find_links, replace_links

HOST = "go.shop.example"
SHORT = f"https://{HOST}/Ab3dE6gH9jK"


def found(text: str) -> list[str]:
    return [link.url for link in find_links(text)]


URLS = [
    "https://x.example",
    "https://x.example/",
    "http://x.example/a",
    "HTTPS://X.example/A",
    "hTTp://x.example",
    "https://x.example/a_b_c",
    "https://x.example/~user/*all*/a_b",
    "https://x.example?a=b&c[]=d",
    "https://x.example#part",
    "https://x.example/a,b;c:d!e'f",
    "https://x.example/?q=a|b&r={c}^",
    "https://x.example/%E6%97%A5%0A?next=%2F",
    "https://x.example:8443/a",
    "https://x.example/@lat,lon,17z",
    "https://user:pw@x.example/a",
    "https://user@x.example:80/a",
    "https://192.0.2.1/a",
    "https://[2001:db8::1]/a",
    "http://[::1]:8080",
    "https://localhost",
    "https://localhost:8080/a",
    "https://en.wikipedia.org/wiki/Mercury_(planet)",
    "https://en.wikipedia.org/wiki/A_(b_(c))_d",
    "https://x.example/a[1]{2}(3)/b",
    "https://bücher.example/käse",
    "https://dom.köln/a",
    "https://例え.テスト/日本",
    "https://xn--bcher-kva.example/a",
    "https://हिन्दी.भारत/पृष्ठ",
    "https://ja.wikipedia.org/wiki/レオナルド・ダ・ヴィンチ",
    "https://fa.wikipedia.org/wiki/می\u200cشود",
    "https://x.example/cafe\u0301",
    "https://web.archive.example/web/2020/https://old.example/a",
    "https://x.example/?u=https://y.example/a,b",
    "https://x.example/#/route?x=y",
    "https://x.example/" + "a/" * 3000,
]
"""Each of them ends in something that ends no sentence."""

AROUND = [
    "{}", " {} ", "*{}*", "_{}_", "~{}~", "`{}`", "```{}```", "*_{}_*", "_*~{}~*_", "**{}**", "*_{}*_",
    "({})", "[{}]", "<{}>", "{{{}}}", '"{}"', "'{}'", "“{}”", "‘{}’", "„{}“", "‚{}‘", "«{}»", "‹{}›", "”{}”",
    "「{}」", "『{}』", "（{}）", "【{}】", "〔{}〕", "《{}》", "〈{}〉", "［{}］", "｛{}｝", "＜{}＞", "＂{}＂",
    "{}.", "{},", "{}!", "{}?", "{}…", "{}:", "{};", "{}...", "{}?!", "{}.)", "({}).", "(*{}*),", "*{}*.", "*{}.*",
    "{}。", "{}、", "{}，", "{}！", "{}？", "{}：", "{}；", "{}．", "{}｡", "{}。次の文", "{}，然后",
    "{}😀", "😀{}😀", "{}👩‍👩‍👧", "{}🇩🇪", "{}👍🏽", "{}❤️", "{}™", "{}→", "{}–", "{}— and",
    "{}\nnext", "line\n{}", "{}\r\nnext", "{}\tnext", "{}\u00a0next", "{}\u3000next", "{}\u2028next", "{}\x00",
    "{}\u200b", "\u200b{}\u200b", "{}\ufeff", "{}\u2060next", "{}\u00adnext", "{}\u200c", "{}\u200dnext",
    "\u200e{}\u200e", "\u200f{}\u200f", "\u202a{}\u202c", "\u202e{}\u202c", "\u2066{}\u2069", "\u061c{}\u061c",
    "Link:{}", "请看{}", "ссылка:{}", "see…{}", "1.{}", "-{}", ">{}", "[here]({})", "[here]({}).", "![]({})",
    "*Sale: {}*", "_now {} _", "*Sale* {}", "*Sale:* _{}_", "*a\n{}", "2*3 {}", "* {}", "{} *bold*", "{}\\next",
    "{}\ud800",
]  # fmt: skip


@pytest.mark.parametrize("around", AROUND, ids=ascii)
def test_a_link_survives_what_stands_around_it(around: str) -> None:
    before = len(around.partition("{}")[0].replace("{{", "{"))
    for url in URLS:
        text = around.format(url)
        assert find_links(text) == [Found(before, before + len(url), url)], text


@pytest.mark.parametrize(
    ("text", "links"),
    [
        pytest.param("_https://x.example/a_", ["https://x.example/a"], id="italics are not the link's"),
        pytest.param("_https://x.example/a_b_", ["https://x.example/a_b"], id="only the last one"),
        pytest.param("https://x.example/a_", ["https://x.example/a_"], id="nothing opened: the link's own"),
        pytest.param("*b* https://x.example/a*", ["https://x.example/a*"], id="closed before"),
        pytest.param("*b\nhttps://x.example/a*", ["https://x.example/a*"], id="markup ends with the line"),
        pytest.param("a*b https://x.example/a*", ["https://x.example/a*"], id="a star inside of a word opens nothing"),
        pytest.param("*b * https://x.example/a*", ["https://x.example/a"], id="a star between spaces closes nothing"),
        pytest.param(
            "https://x.example/*a https://y.example/b*",
            ["https://x.example/*a", "https://y.example/b*"],
            id="a star inside of a link opens nothing",
        ),
        pytest.param("* b https://x.example/a*", ["https://x.example/a*"], id="a bullet opens nothing"),
        pytest.param("*https://x.example/a**", ["https://x.example/a*"], id="as many as opened"),
        pytest.param(
            "*https://x.example/a* https://y.example/b*",
            ["https://x.example/a", "https://y.example/b*"],
            id="closed by the first",
        ),
        pytest.param(
            "*https://x.example/a und https://y.example/b*",
            ["https://x.example/a", "https://y.example/b"],
            id="open beyond the first",
        ),
        pytest.param("(https://x.example/a_(b))", ["https://x.example/a_(b)"], id="brackets in pairs"),
        pytest.param("https://x.example/a)b", ["https://x.example/a"], id="nothing opened"),
        pytest.param("https://x.example/a(see", ["https://x.example/a"], id="nothing closed"),
        pytest.param("https://x.example/a(b(c)", ["https://x.example/a"], id="one of two closed"),
        pytest.param("https://x.example/(a]", ["https://x.example/"], id="closed by another kind"),
        pytest.param("https://x.example/a([{", ["https://x.example/a"], id="brackets that open at the end"),
        pytest.param("https://x.example*, https://y.example", ["https://x.example", "https://y.example"], id="a star"),
        pytest.param("https://x.example,https://y.example", ["https://x.example", "https://y.example"], id="a comma"),
        pytest.param("https://x.example/a,HTTP://y.example", ["https://x.example/a", "HTTP://y.example"], id="a list"),
        pytest.param("https://x.example/a;https://y.example", ["https://x.example/a", "https://y.example"], id=";"),
        pytest.param("https://x.example/a|https://y.example", ["https://x.example/a", "https://y.example"], id="|"),
        pytest.param("https://x.example\nhttps://x.example", ["https://x.example"] * 2, id="one under the other"),
        pytest.param("https://x.example。https://y.example", ["https://x.example", "https://y.example"], id="a stop"),
        pytest.param("https://x.examplehttps://y.example/a", [], id="glued: nobody can tell"),
        pytest.param("https://x.example/ahttps://y.example", ["https://x.example/ahttps://y.example"], id="in a path"),
        pytest.param("https://x.example/1️⃣ https://y.example", ["https://y.example"], id="an emoji made of a digit"),
        pytest.param("https://x.example:80a", [], id="a port that goes on"),
        pytest.param("https://x.example请点击", ["https://x.example"], id="a Chinese sentence behind a host"),
        pytest.param("https://x.exampleをご覧", ["https://x.example"], id="a Japanese one"),
        pytest.param("https://x.example./a", ["https://x.example./a"], id="a host with its root"),
        pytest.param("https://x.example.", ["https://x.example"], id="a full stop behind a host"),
        pytest.param("http://", [], id="nothing"),
        pytest.param("http:// x.example", [], id="nothing, and then something"),
        pytest.param("https://...", [], id="points"),
        pytest.param("https://*", [], id="a star only"),
        pytest.param("_https://_", [], id="a mark only"),
        pytest.param("https:///path", [], id="no host"),
        pytest.param("https://?a", [], id="no host, a query"),
        pytest.param("https:/x.example", [], id="one slash"),
        pytest.param("https:x.example", [], id="no slash"),
        pytest.param("https://[Firma].example", [], id="a placeholder"),
        pytest.param("http://http://x.example", [], id="a scheme twice"),
        pytest.param("x.example www.x.example //x.example ftp://x.example mailto:a@x.example", [], id="no scheme"),
        pytest.param("git+https://x.example/a xhttps://x.example", [], id="other schemes"),
        pytest.param("y.example/?to=https://x.example mailto:?body=https://x.example", [], id="in another link"),
        pytest.param("", [], id="empty"),
    ],
)
def test_where_a_link_ends(text: str, links: list[str]) -> None:
    assert found(text) == links
    assert all(text[link.start : link.end] == link.url for link in find_links(text))


# A hostile alphabet: everything that opens, closes, ends, joins or looks like a link.
PIECES = st.sampled_from(
    [
        *("https://", "http://", "HTTPS://", "x.example", "y.example/", "/a", "?b=", "#c", ":80", "@", "%", "a", "Z"),
        *("https://x.example/a", SHORT),
        *"*_~`()[]{}<>\"'.,!?:;|\\^&=+- \n\t…。，（）「」日ü·–™😀\u200b\u200c\u200d\u200e\ufe0f\u20e3\u0301\x00",
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60)


@given(TEXTS)
@example("https://x.example/a_b_c* (https://y.example). ")
def test_replacing_each_link_with_itself_changes_nothing(text: str) -> None:
    links = find_links(text)
    assert replace_links(text, {link: link.url for link in reversed(links)}) == text
    assert all(text[link.start : link.end] == link.url for link in links)
    assert all(one.end <= other.start for one, other in pairwise(links))


@given(TEXTS)
def test_only_the_links_change(text: str) -> None:
    links = find_links(text)
    parts = replace_links(text, dict.fromkeys(links, "\ue000")).split("\ue000")
    starts, ends = [0, *(link.end for link in links)], [*(link.start for link in links), len(text)]
    assert "\ue000" in text or parts == [text[start:end] for start, end in zip(starts, ends, strict=True)]


def rewritten(text: str) -> str:
    return replace_links(text, {link: SHORT for link in find_links(text) if why_untracked(link.url, HOST) is None})


@given(TEXTS)
@example("https://x.example,https://y.example/a|https://z.example请点击")
@example("*https://x.example*https://x.example/a)https://y.example")
def test_rewriting_again_changes_nothing(text: str) -> None:
    once = rewritten(text)
    assert rewritten(once) == once


@given(TEXTS)
def test_no_letter_or_digit_joins_a_token(text: str) -> None:
    """The link host reads the token and nothing behind it, so it must be clear where the token ends."""
    links = find_links(text)
    assert not any(re.match("[A-Za-z0-9]", text[link.end :]) for link in links)


@pytest.mark.parametrize(
    "replacements",
    [
        {Found(0, 19, "https://y.example/a"): "x"},
        {Found(1, 20, "https://x.example/a"): "x"},
        {Found(0, 19, "https://x.example/a"): "x", Found(8, 19, "x.example/a"): "y"},
        {Found(0, 99, "https://x.example/a"): "x"},
    ],
    ids=["another text", "another place", "overlapping", "beyond the end"],
)
def test_a_link_of_another_text_is_not_replaced(replacements: dict[Found, str]) -> None:
    with pytest.raises(ValueError, match="not found in this text"):
        replace_links("https://x.example/a", replacements)


class Counting:
    """A pattern that counts the characters its matches cover."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        self.read = 0

    def _counted(self, match: re.Match[str] | None, start: int, end: int) -> re.Match[str] | None:
        self.read += (match.end() if match else end) - start
        return match

    def search(self, text: str, at: int) -> re.Match[str] | None:
        return self._counted(self.pattern.search(text, at), at, len(text))

    def match(self, text: str, at: int = 0) -> re.Match[str] | None:
        return self._counted(self.pattern.match(text, at), at, at + 1)

    def finditer(self, text: str, start: int, end: int | None = None) -> Iterator[re.Match[str]]:
        at, end = start, len(text) if end is None else end
        for match in self.pattern.finditer(text, start, end):
            self._counted(match, at, end)
            at = match.end()
            yield match
        self.read += end - at


HOSTILE = [
    "https://", "https://a", "https://a.b/", "https://a.b/,", "https://a.b/(", "https://a.b/)", "https://a.b/!:",
    "https://a.b/:https://a.b/1️⃣", "https://u@", "https://a.b/。", "https://。", "https://é", "https://a.é日",
    "https://a.b*", "*https://a.b*_", "(", ")", "*", "_*~", "@", "%", "h", "http", "https:", "https://[", "https://[:",
    "https://a.b/x,https://a.b(", ".", "é", "日", "\u200c", "a\u200c", "👩‍", "[]", "([{", "https://a.b?'", "\n*",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
@pytest.mark.parametrize(
    ("head", "tail"), [("", ""), ("https://a.b/", "1️⃣"), ("*https://u:", "")], ids=["bare", "in a path", "in a user"]
)
def test_a_hostile_text_is_read_a_few_times_only(
    head: str, piece: str, tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = []
    for name in ("_SCHEME", "_AUTHORITY", "_NOTABLE", "_MARK"):
        counter: Any = Counting(getattr(urls, name))
        counters.append(counter)
        monkeypatch.setattr(urls, name, counter)
    text = head + piece * (100_000 // len(piece)) + tail
    links = find_links(text)
    assert sum(counter.read for counter in counters) <= 4 * len(text)
    assert sum(len(link.url) for link in links) <= len(text)
