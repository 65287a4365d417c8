"""How many SMS a text is billed as: GSM 03.38's alphabet, or UCS-2 where one character is outside of it."""

from typing import Final

SINGLE_GSM, PART_GSM = 160, 153
"""Septets that one SMS holds, and one part of a concatenated message, whose header takes the rest."""
SINGLE_UCS2, PART_UCS2 = 70, 67
"""The same in UTF-16 code units."""

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("\f^{}\\[~]|€")
"""Written as two septets: an escape and a character."""


def count_segments(text: str) -> int:
    """The number of SMS this text takes; an empty one takes one too."""
    if _BASIC.issuperset(text) or _BASIC.union(_EXTENDED).issuperset(text):
        return _pack([2 if character in _EXTENDED else 1 for character in text], SINGLE_GSM, PART_GSM)
    return _pack([2 if ord(character) > 0xFFFF else 1 for character in text], SINGLE_UCS2, PART_UCS2)


def _pack(widths: list[int], single: int, part: int) -> int:
    """Fill part after part; what is two wide (an escape, a surrogate pair) stays in one."""
    if sum(widths) <= single:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > part:
            parts, used = parts + 1, 0
        used += width
    return parts
