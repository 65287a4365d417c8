"""`partyline verify`: why does this signature not verify?"""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from hub.commands.replay import read_time
from hub.commands.running import DONE, WRONG, CommandError, load_settings

_HELP: Final = {
    "standard": "Standard Webhooks, as the hub signs what it posts to services",
    "meta": "Meta's X-Hub-Signature-256",
    "twilio": "Twilio's X-Twilio-Signature",
}


@click.command("verify")
@click.option("--body", "body_file", type=click.Path(path_type=Path, allow_dash=True), default="-", show_default=True,
              help="The body, byte by byte, in a file; - is the standard input.")  # fmt: skip
@click.option("-H", "--header", "lines", multiple=True, metavar="'NAME: VALUE'", help="A header; again for more.")
@click.option("--headers", "headers_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Headers in a file, one a line, as NAME: VALUE.")  # fmt: skip
@click.option("--secret", "secrets", multiple=True, envvar="PARTYLINE_WEBHOOK_SECRET", show_envvar=True,
              metavar="SECRET", help="What it should be signed with; else, of Meta and Twilio, as set.")  # fmt: skip
@click.option("--secret-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The same in a file, one a line: so that it is in no shell history.")  # fmt: skip
@click.option("--url", metavar="URL", help="The URL that Twilio called; else PUBLIC_URL with the path of its webhook.")
@click.option("--kind", type=click.Choice(list(_HELP)), help="Whose signature it is; else as the headers say.")
@click.option("--at", callback=read_time, metavar="TIME", help="When it arrived; else just now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of sentences.")
def verify(
    body_file: Path, lines: Sequence[str], headers_file: Path | None, secrets: Sequence[str],
    secret_file: Path | None, url: str | None, kind: Any, at: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Find out why a signature does not verify.

    Takes a webhook as it arrived, and the secrets that it should be signed with: the hub's own (webhook-signature),
    Meta's (X-Hub-Signature-256) and Twilio's (X-Twilio-Signature). Exits with 0 if it verifies and with 1 if not.
    Secrets are printed nowhere.
    """
    from hub.commands import diagnosis
    from hub.commands.mishaps import Received

    if headers_file:
        lines = [*lines, *headers_file.read_text(errors="replace").splitlines()]
    headers = _headers(lines)
    kind = kind or diagnosis.kind_of(headers)
    if kind is None:
        raise click.UsageError(
            "no header of a signature was given: webhook-signature, X-Hub-Signature-256 or X-Twilio-Signature, by -H or"
            " --headers"
        )
    given = [*secrets, *(secret_file.read_text(errors="replace").splitlines() if secret_file else ())]
    try:
        body = sys.stdin.buffer.read() if str(body_file) == "-" else body_file.read_bytes()
        known = given or _configured(kind)
    except OSError as error:
        click.echo(f"partyline: {error.filename}: {error.strerror}", err=True)
        raise SystemExit(WRONG) from None
    except CommandError as error:
        click.echo(f"partyline: {error}", err=True)
        raise SystemExit(error.code) from None
    received = Received(headers, body, url or (_called() if kind == "twilio" else ""))
    now = datetime.fromisoformat(at).timestamp() if at else time.time()
    told = diagnosis.diagnose(kind, received, known, now)
    _print(told, as_json=as_json)
    raise SystemExit(DONE if told.is_valid else WRONG)


def _headers(lines: Sequence[str]) -> dict[str, str]:
    """Names in small letters; lines that are none, as the first of a request, are passed over."""
    pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith(":"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _configured(kind: str) -> list[str]:
    """The secrets that the hub itself verifies with."""
    if kind == "standard":
        raise CommandError("give the signing secret: --secret-file, --secret or PARTYLINE_WEBHOOK_SECRET")
    settings = load_settings()
    if kind == "meta":
        return [secret.get_secret_value() for secret in settings.meta_app_secrets]
    shared = [settings.twilio_shared_key.get_secret_value()] if settings.twilio_shared_key else []
    return [*(token.get_secret_value() for token in settings.twilio_auth_token), *shared]


def _called() -> str:
    return f"{load_settings().reached_at}/webhooks/twilio"


def _print(told: Any, *, as_json: bool) -> None:
    from hub.printing import print_json, print_table

    if as_json:
        findings = [{"code": each.code, "found": each.text, "cure": each.cure} for each in told.findings]
        print_json({"verifies": told.is_valid, "kind": told.kind, "findings": findings})
        return
    click.echo(f"{'verifies' if told.is_valid else 'does not verify'}: {_HELP[told.kind]}")
    if told.findings:
        print_table(("what is wrong", "why", "what to do"), [(f.code, f.text, f.cure) for f in told.findings])
