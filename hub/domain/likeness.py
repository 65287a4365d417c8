"""What speaks for and against two contacts being one person, in words, for whoever has to decide (rules I5, I7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SINGLE: Final = {"phone": "a phone number", "email": "an e-mail address", "user_id": "a business-scoped id"}
"""Addresses of which a person mostly has one."""


@dataclass(frozen=True, slots=True)
class Known:
    """A contact as it is weighed. `addresses`: how well each (type, value) is known; `identities`: what services call
    them (service, their id) and whether it verified that.
    """

    name: str | None
    addresses: Mapping[tuple[str, str], str]
    visitors: frozenset[str] = frozenset()
    identities: Mapping[tuple[str, str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that speaks for it, or against. `is_bar`: the rules forbid it."""

    is_for: bool
    text: str
    is_bar: bool = False


def weigh(one: Known, other: Known) -> list[Point]:
    """Everything that can be said, what weighs most first."""
    return [*_identities(one, other), *_addresses(one, other), *_visitors(one, other), *_names(one, other)]


def _identities(one: Known, other: Known) -> list[Point]:
    points = []
    mine, theirs = one.identities or {}, other.identities or {}
    for service in sorted({name for name, _ in mine} & {name for name, _ in theirs}):
        is_verified = all(any(known[key] for key in known if key[0] == service) for known in (mine, theirs))
        text = f"{service} knows both, each by an id of its own"
        if is_verified:
            text += ", and has verified both: two customers, who cannot be merged"
        points.append(Point(False, text + ".", is_verified))
    return points


def _addresses(one: Known, other: Known) -> list[Point]:
    points = []
    for kind, value in sorted(one.addresses.keys() & other.addresses.keys()):
        points.append(
            Point(True, f"Both have {value}: {one.addresses[kind, value]} here, {other.addresses[kind, value]} there.")
        )
    for kind, name in SINGLE.items():
        mine, theirs = _of(one, kind), _of(other, kind)
        if mine and theirs and not set(mine) & set(theirs):
            points.append(Point(False, f"Each has {name} of its own: {_list(mine)} here, {_list(theirs)} there."))
        elif bool(mine) != bool(theirs):
            has = mine or theirs
            points.append(Point(True, f"Only one of them has {name} ({_list(has)}): nothing there contradicts."))
    return points


def _of(known: Known, kind: str) -> list[str]:
    return sorted(value for each, value in known.addresses if each == kind)


def _list(values: Sequence[str]) -> str:
    return ", ".join(values)


def _visitors(one: Known, other: Known) -> list[Point]:
    shared = len(one.visitors & other.visitors)
    if not shared:
        return []
    browsers = "One browser was" if shared == 1 else f"{shared} browsers were"
    return [Point(True, f"{browsers} used by both, at different times: one person, or a household.")]


def _names(one: Known, other: Known) -> list[Point]:
    if not one.name or not other.name:
        return []
    mine, theirs = _words(one.name), _words(other.name)
    if mine == theirs:
        return [Point(True, f"Both are called {one.name}.")]
    if mine & theirs:
        return [Point(True, f"Their names are alike: {one.name} here, {other.name} there.")]
    return [Point(False, f"Their names differ: {one.name} here, {other.name} there.")]


def _words(name: str) -> set[str]:
    return set(name.casefold().replace(",", " ").split())
