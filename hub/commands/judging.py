"""Trying what may have happened to a webhook, and what is said of it in the end."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hub.commands.mishaps import RAW, Finding, compact, guessed_secrets

Kind = Literal["standard", "meta", "twilio"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Whether it verifies; where it does not, what is wrong with it."""

    kind: Kind
    is_valid: bool
    findings: tuple[Finding, ...]


def _which(place: int, secrets: Sequence[str]) -> str:
    return f", with secret {place + 1} of {len(secrets)}" if len(secrets) > 1 else ""


def search(
    secrets: Sequence[str], tries: Callable[[str], Iterable[tuple[bool, Sequence[Finding | None]]]]
) -> tuple[int, list[Finding]] | None:
    """The first combination that fits, those with the fewest mishaps first; with the place of its secret."""
    best: tuple[int, list[Finding]] | None = None
    for place, guess in guessed_secrets(secrets):
        if not guess.value:
            continue
        for fits, mishaps in tries(guess.value):
            if fits:
                found = [mishap for mishap in (guess.mishap, *mishaps) if mishap]
                if best is None or len(found) < len(best[1]):
                    best = place, found
                if not found:
                    return best
    return best


def verdict(kind: Kind, findings: Sequence[Finding], *, is_valid: bool) -> Diagnosis:
    """What was found, each once."""
    return Diagnosis(kind, is_valid, tuple(dict.fromkeys(findings)))


def nothing_fits(body: bytes, secrets: Sequence[str], whose: str, *, is_json: bool) -> list[Finding]:
    """That no secret fits, and what may be the reason."""
    if not any(secrets):
        return [Finding("no_secret", "no secret was given", f"give {whose}")]
    found = [
        Finding(
            "wrong_secret",
            f"none of the {len(secrets)} secrets given made this signature, whatever else is changed back",
            f"take {whose}; one that was rotated is no longer used once its overlap is over. Is it the right one, then"
            " body or headers are not those that were sent: capture them again",
        )
    ]
    if is_json and (hint := _looks_rewritten(body)):
        found.append(hint)
    return found


def _looks_rewritten(body: bytes) -> Finding | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        text = "the body is no whole JSON document: it may be cut off, or another request's"
        return Finding("body_not_json", text, RAW)
    is_sorted = isinstance(document, dict) and len(document) > 1 and list(document) == sorted(document)
    if body not in set(compact(document)) or (is_sorted and "type" in document):
        text = "the body looks as if it was parsed and written again, in a way that cannot be changed back"
        return Finding("body_reserialised", text, RAW)
    return None


def with_place(kind: Kind, findings: Sequence[Finding], place: int, secrets: Sequence[str]) -> Diagnosis:
    """That a secret fits, and which of several."""
    told = list(findings)
    if not told and len(secrets) > 1:
        return Diagnosis(kind, True, (Finding("verifies", f"it verifies{_which(place, secrets)}", ""),))
    return verdict(kind, told, is_valid=not told)
