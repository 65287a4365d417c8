"""Looks for what is wrong before a hub is started, or while it runs, and says what to do about it."""

from collections.abc import Sequence
from typing import Final

from config.settings import Settings
from hub import check_config, check_reach, check_senders, check_stored
from hub.check_findings import Finding, fail, ok, show, warn
from hub.check_senders import Looked, Registered
from hub.printing import progress
from providers.whatsapp_cloud.subscriptions import REQUIRED_FIELDS

_UNKNOWN: Final = "unknown: "
_DEAF: Final = frozenset(
    {"webhook_elsewhere", "token_revoked", "permission_missing", "sender_not_registered", "account_restricted"}
)
"""With one of these, nothing comes in or nothing goes out."""


async def report(settings: Settings, *, as_json: bool = False) -> int:
    """Print every check as a line of a table, or as JSON; 1 where one failed, warnings count as passed."""
    with progress("checking", 4) as bar:
        findings = check_config.look(settings)
        bar.at(1, "database")
        stored = await check_stored.look(settings)
        bar.at(2, "network")
        findings += stored.findings + await check_reach.look(settings, stored.subscriptions or ())
        bar.at(3, "providers")
        findings += await _senders(settings, stored.senders)
    show(findings, as_json=as_json)
    return int(any(finding.level == "fail" for finding in findings))


async def _senders(settings: Settings, senders: Sequence[Registered] | None) -> list[Finding]:
    """How the registered senders are, and whether their webhooks come here."""
    if senders is None:
        cure = "ask the hub: GET /v1/admin/numbers"
        return [warn("senders_unknown", "senders", "cannot be listed from here", cure)]
    looked = await check_senders.look(settings, senders)
    return [finding for each in looked for finding in _sender(settings, each)]


def _sender(settings: Settings, looked: Looked) -> list[Finding]:
    name = f"{looked.sender.probe.medium} {looked.sender.probe.e164}"
    if looked.failure:
        text = f"{looked.sender.provider}: {looked.failure}"
        return [warn("sender_unchecked", name, text, "see Meta's or Twilio's status")]
    found = [_problem(settings, looked, name, code, detail) for code, detail in looked.problems.items()]
    if looked.facts.get("webhook_fields", "").startswith(_UNKNOWN):
        text = "which webhook fields the app is subscribed to is unknown"
        cure = looked.facts["webhook_fields"].removeprefix(_UNKNOWN)
        found.append(
            warn("webhook_fields_unknown", name, text, f"{cure}; the right ones: {', '.join(REQUIRED_FIELDS)}")
        )
    told = ", ".join(f"{fact} {looked.facts[fact]}" for fact in ("quality", "messaging_limit") if fact in looked.facts)
    return found or [ok("sender", name, told or f"{looked.sender.provider} finds nothing wrong")]


def _problem(settings: Settings, looked: Looked, name: str, code: str, detail: str) -> Finding:
    """What keeps messages away fails; what only keeps some news away is a warning."""
    is_deaf = code in _DEAF or (code == "fields_missing" and not _hears_messages(looked))
    made = fail if is_deaf else warn
    return made(code, name, f"{code}: {detail}", _cure(settings, looked.sender.provider, code))


def _hears_messages(looked: Looked) -> bool:
    """Whether the field that carries customers' messages is among those subscribed to, as far as that is known."""
    fields = looked.facts.get("webhook_fields")
    return fields is not None and (fields.startswith(_UNKNOWN) or "messages" in fields.split(", "))


def _cure(settings: Settings, provider: str, code: str) -> str:
    if code == "fields_missing":
        return f"subscribe the app to: {', '.join(REQUIRED_FIELDS)}"
    if code == "webhook_elsewhere":
        return f"set there: {settings.reached_at}/webhooks/{provider}"
    return "see docs/providers.md, Sender health"
