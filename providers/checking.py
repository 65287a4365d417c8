"""What a check of a sender finds: the pure part that all providers share."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from providers.base import Refused, SenderCheck

_PORTS: Final = {"https": 443, "http": 80}
_OF_REFUSAL: Final = {
    "token_revoked": ("token_revoked", "{who} takes the credentials no more: make new ones and configure them."),
    "permission_denied": ("permission_missing", "{who} says that the credentials may not see this sender."),
    "account_restricted": ("account_restricted", "{who} has restricted the account: see its messages to you."),
    "sender_not_registered": (
        "sender_not_registered",
        "{who} shows these credentials no such sender: check its external_id, and whose it is.",
    ),
    "payment_required": ("payment_required", "{who} wants to be paid: put the means of payment in order."),
}


@dataclass(slots=True)
class Findings:
    """What was found so far: problems with a sentence each, all codes that could be told, and facts."""

    problems: dict[str, str] = field(default_factory=dict)
    judged: set[str] = field(default_factory=set)
    facts: dict[str, str] = field(default_factory=dict)

    def judge(self, *codes: str) -> None:
        """The answer tells whether these hold."""
        self.judged.update(codes)

    def found(self, code: str, detail: str) -> None:
        """It does hold. What several answers say of it is kept together."""
        self.judged.add(code)
        known = self.problems.get(code)
        if known is None or detail not in known:
            self.problems[code] = f"{known} {detail}" if known else detail

    def result(self) -> SenderCheck:
        """All of it."""
        return SenderCheck(self.problems, frozenset(self.judged), self.facts)


def of_refusal(error: Refused, who: str) -> SenderCheck:
    """What it says of a sender that the provider refuses to tell of it. Raises the error where that is nothing."""
    known = _OF_REFUSAL.get(error.code)
    if known is None:
        raise error
    code, sentence = known
    said = f" It says {error.provider_code}." if error.provider_code else ""
    return SenderCheck({code: sentence.format(who=who) + said}, frozenset({code}))


def is_same_address(found: str | None, wanted: str) -> bool:
    """Whether a provider that calls `found` reaches what is at `wanted`; the query makes no difference."""
    return bool(found) and _address(found or "") == _address(wanted)


def shown(url: str) -> str:
    """The URL without what may be secret in it: user, password, query."""
    try:
        parts = urlsplit(url.strip())
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:300]
    except ValueError:
        return "an address that cannot be read"


def _address(url: str) -> tuple[str, str, int | None, str]:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return ("", "", None, url)
    return (parts.scheme.lower(), (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme.lower()), parts.path)
