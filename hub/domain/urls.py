"""Links inside a message's text: where each one is, and how to put another in its place (rule F, tracked links).

Texts are written by people: links stand between markup, quotes, brackets and full stops, and nothing says where they
end. A link here always has a scheme. Everything is found in one pass: no character is looked at more than a fixed
number of times, whatever the text.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

# Behind a letter or digit these are the end of another scheme (`git+https://`), behind the others a part of an address
# without one (`shop.example/?to=https://`), which must stay what it is.
_SCHEME: Final = re.compile(r"(?<![A-Za-z0-9+=/&#%@])https?://", re.IGNORECASE)
_AUTHORITY: Final = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:%@-]*@)?"
    r"(?:\[[0-9A-Fa-f:.%]+\]|(?:(?!https?://)[A-Za-z0-9._%\x80-\U0010ffff-])+)(?::[0-9]+)?",
    re.IGNORECASE,
)
_NOTABLE: Final = re.compile(
    r"(?P<end>[\x00-\x20\x7f\"<>`\\]|[,;|](?=https?://))|(?P<bracket>[()\[\]{}])|(?P<foreign>[\x80-\U0010ffff])",
    re.IGNORECASE,
)
"""What may end a path: everything else belongs to it."""
_MARK: Final = re.compile(r"([*_~])\1*|\n")
_OPENERS: Final = frozenset("([{")
_OPENERS_OF: Final = {")": "(", "]": "[", "}": "{"}
_TRAILING: Final = frozenset(".,!?:;'|([{")
"""Never the last character of a link: the sentence's, or what opens the next thing."""
_JOINERS: Final = frozenset("·・–\u200c\u200d")
"""Neither letters nor digits, and yet inside of words: the dots of Catalan and Japanese, the dash of double names, and
the marks that Persian and the scripts of India join letters with."""
_ZERO_WIDTH: Final = frozenset("\u200c\u200d")
_LABEL_LENGTH: Final = 63
_EMOJI_MARKS: Final = re.compile("[\ufe00-\ufe0f\u20e3]")


@dataclass(frozen=True, slots=True)
class Found:
    """A link and its place: `text[start:end] == url`, exactly as written."""

    start: int
    end: int
    url: str


def find_links(text: str) -> list[Found]:
    """Every http and https link of a text, from left to right, without the punctuation and markup around it.

    Left out are those whose end nobody can tell: glued to more letters, to another link, or to an emoji made of a
    digit. Letters of other scripts right behind a path are taken for a part of it, as phones do.

    What follows a link may be something that phones take for more of a path (`https://shop.example*`): the link host
    has to read no further than the token.
    """
    found: list[Found] = []
    marks: dict[str, int] = {}
    after = at = 0
    while match := _SCHEME.search(text, at):
        end, at = _ends(text, match.end())
        _follow_marks(text, after, match.start(), marks)
        after = match.start()
        if end > match.end():
            end = _trimmed(text, match.end(), end, marks)
        if end > match.end() and not _is_glued(text, end):
            found.append(Found(match.start(), end, text[match.start() : end]))
            after = end
    return found


def replace_links(text: str, replacements: Mapping[Found, str]) -> str:
    """The text with those links replaced; all else stays as it is, to the character.

    Raises ValueError where a link is not in this text at its place, or two of them overlap.
    """
    parts: list[str] = []
    at = 0
    for link in sorted(replacements, key=lambda link: link.start):
        if link.start < at or link.end > len(text) or text[link.start : link.end] != link.url:
            raise ValueError("these links were not found in this text")
        parts += text[at : link.start], replacements[link]
        at = link.end
    return "".join([*parts, text[at:]])


def _ends(text: str, start: int) -> tuple[int, int]:
    """Where the link ends whose scheme ends at `start`, trailing punctuation included, and how far the text was read.

    What was read is never read again, or a hostile text would take the square of its length.
    """
    authority = _AUTHORITY.match(text, start)
    if authority is None:
        return start, start
    seen = authority.end()
    for index in _foreign(text, start, seen):
        if not _is_word(text, index) or _leaves_ascii(text, start, index):
            return index, seen
    if text[seen : seen + 1] not in {"/", "?", "#"}:
        return seen, seen
    return _path_ends(text, seen)


def _path_ends(text: str, start: int) -> tuple[int, int]:
    """The same behind a host: brackets belong to the link only in pairs."""
    opened: list[int] = []
    seen = len(text)
    for match in _NOTABLE.finditer(text, start):
        place, bracket = match.start(), match["bracket"]
        if bracket in _OPENERS:
            opened.append(place)
        elif bracket and opened and text[opened[-1]] == _OPENERS_OF[bracket]:
            opened.pop()
        elif not match["foreign"] or not _is_word(text, place):
            seen = place
            break
    return (opened[0] if opened else seen), seen


def _foreign(text: str, start: int, end: int) -> Iterator[int]:
    return (index for index in range(start, end) if not text[index].isascii())


def _is_word(text: str, index: int) -> bool:
    """Whether this character beyond ASCII can be inside of a word."""
    char = text[index]
    if char in _JOINERS:
        sides = text[index - 1], text[index + 1 : index + 2]
        return all(map(_is_letter, sides)) and not (char in _ZERO_WIDTH and any(map(str.isascii, sides)))
    return _is_letter(char)


def _is_letter(char: str) -> bool:
    """Whether it is a letter, a digit or a mark of one, in any script; marks of emoji are not."""
    return char != "" and unicodedata.category(char)[0] in "LMN" and not _EMOJI_MARKS.match(char)


def _leaves_ascii(text: str, start: int, index: int) -> bool:
    """Whether a host goes on in a script without capitals right behind an ASCII name: there, a sentence begins.

    Chinese, Japanese and Thai have no spaces; no top-level domain begins in ASCII and goes on in one of these.
    """
    name, _, label = text[max(start, index - _LABEL_LENGTH - 1) : index].rpartition(".")
    return bool(name) and label.isascii() and label.isalpha() and unicodedata.category(text[index]) == "Lo"


def _follow_marks(text: str, start: int, end: int, marks: dict[str, int]) -> None:
    """Note which markup is open at `end`: the length of each opening run; it never outlives its line."""
    for match in _MARK.finditer(text, start, end):
        mark = match[1]
        before, behind = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        if mark is None:
            marks.clear()
        elif mark in marks and not before.isspace():
            del marks[mark]
        elif not before.isalnum() and behind and not behind.isspace():
            marks[mark] = len(match[0])


def _trimmed(text: str, start: int, end: int, marks: Mapping[str, int]) -> int:
    """The end without the punctuation of the sentence and without the markup that opened before the link."""
    left = dict(marks)
    while end > start:
        last = text[end - 1]
        if last not in _TRAILING and not left.get(last):
            break
        if last in left:
            left[last] -= 1
        end -= 1
    return end


def _is_glued(text: str, end: int) -> bool:
    """Whether what follows would be read as more of any link put here."""
    behind = text[end : end + 1]
    is_letter = behind.isascii() and behind.isalnum()
    return is_letter or _EMOJI_MARKS.match(behind) is not None
