"""Why a signature of Twilio's does not verify: over a URL, the fields of a form, or the hash of a body."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from hub.commands.judging import Diagnosis, nothing_fits, search, verdict, with_place
from hub.commands.mishaps import RAW, Finding, Guess, Received, bodies, header


def judge_twilio(received: Received, secrets: Sequence[str], now: float) -> Diagnosis:
    """Judge a signature by the URL that was called; `now` is not signed."""
    given, findings = header(received.headers, "x-twilio-signature")
    given = given.strip()
    if not given:
        return verdict("twilio", findings, is_valid=False)
    if not received.url:
        cure = "give it by --url, with scheme, host, path and query"
        findings.append(Finding("no_url", "the URL is signed, too: which one did Twilio call?", cure))
        return verdict("twilio", findings, is_valid=False)
    is_json = received.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    findings += _body_hash(received) if is_json or "bodysha256" in received.url.lower() else []
    settings = received.headers.get("x-twilio-webhooks-signature-settings", "")
    algorithm = "sha256" if "sha256" in settings.lower() else "sha1"

    def tries(secret: str) -> Iterator[tuple[bool, Sequence[Finding | None]]]:
        key = secret.encode("utf-8", "surrogatepass")
        for url in _urls(received):
            for form in _forms(b"" if is_json else received.body):
                made = base64.b64encode(hmac.digest(key, (url.value + form.value).encode(), algorithm)).decode()
                yield hmac.compare_digest(made, given), (url.mishap, form.mishap)

    found = search(secrets, tries)
    if found is None:
        whose = "the auth token of the account that the number belongs to; each subaccount has its own"
        if algorithm == "sha256":
            whose = "the shared key that webhooks are signed with (TWILIO_SHARED_KEY)"
        findings += nothing_fits(received.body, secrets, whose, is_json=False)
        cure = "compare it with what Twilio called: its debugger shows the URL; PARTYLINE_PUBLIC_URL must be it"
        findings.append(Finding("url_differs", "or the URL is not the one that Twilio called", cure))
        return verdict("twilio", findings, is_valid=False)
    return with_place("twilio", [*findings, *found[1]], found[0], secrets)


def _body_hash(received: Received) -> list[Finding]:
    """A body that is no form is signed by its hash in the query."""
    query = dict(parse_qsl(urlsplit(received.url).query))
    told = query.get("bodySHA256")
    if told is None:
        cure = "keep the query as it came: bodySHA256 is in it"
        return [Finding("body_hash_missing", "the URL lacks bodySHA256, which signs a JSON body", cure)]
    if hmac.compare_digest(hashlib.sha256(received.body).hexdigest(), told.lower()):
        return []
    for other in bodies(received.body):
        if other.mishap and hashlib.sha256(other.value).hexdigest() == told.lower():
            return [other.mishap]
    return [Finding("body_changed", "the body is not the one whose hash was signed", RAW)]


def _urls(received: Received) -> Iterator[Guess]:
    """URLs that may have been called, where the one at hand was put together behind a proxy."""
    yield Guess(received.url)
    parts = urlsplit(received.url)
    host = parts.hostname or ""
    hosts = {parts.netloc: ""}
    cure = "set PARTYLINE_PUBLIC_URL to the URL that Twilio calls"
    for name in ("x-forwarded-host", "host", "x-original-host"):
        if told := received.headers.get(name, "").partition(",")[0].strip():
            hosts.setdefault(told, f"the host is {told} ({name})")
    if parts.port:
        hosts.setdefault(host, f"the port {parts.port} is not in the URL")
    for port in (443, 80, 8080, 8443):
        if not parts.port:
            hosts.setdefault(f"{host}:{port}", f"the port {port} is in the URL")
    paths = {parts.path: ""}
    paths.setdefault(parts.path.rstrip("/") or "/", "the path does not end in /")
    paths.setdefault(f"{parts.path}/", "the path ends in /")
    for path in ("/webhooks/twilio", "/webhooks/twilio/status"):
        paths.setdefault(path, f"the path is {path}")
    queries = {parts.query: "", **({"": "it has no query"} if parts.query else {})}
    for scheme, wrong in (
        (parts.scheme, ""),
        ({"http": "https", "https": "http"}.get(parts.scheme, "https"), "scheme"),
    ):
        for netloc, in_host in hosts.items():
            for path, in_path in paths.items():
                for query, in_query in queries.items():
                    told = f"the scheme is {scheme}" if wrong else ""
                    changes = [change for change in (told, in_host, in_path, in_query) if change]
                    if changes:
                        text = f"Twilio called another URL than the one given: {', '.join(changes)}"
                        url = urlunsplit((scheme, netloc, path, query, ""))
                        yield Guess(url, Finding("url_differs", text, cure))


def _forms(body: bytes) -> Iterator[Guess]:
    """What a form's fields add to the URL: sorted by name, each name followed by its value."""
    given = parse_qsl(body.decode("utf-8", "surrogateescape"), keep_blank_values=True)
    yield Guess(_joined(given))
    filled = [(name, value) for name, value in given if value]
    cure = "hash all fields as they came: empty ones, and those that Twilio adds later"
    if len(filled) < len(given):
        yield Guess(_joined(filled), Finding("form_blanks", "empty fields were added", cure))
    stripped = [(name, value.strip()) for name, value in given]
    if stripped != given:
        yield Guess(_joined(stripped), Finding("form_spaces", "blanks around values were added", cure))
    try:
        recoded = [(name, value.encode("latin-1").decode()) for name, value in given]
        if recoded != given:
            yield Guess(_joined(recoded), Finding("body_charset", "the form was read as latin-1: it is UTF-8", RAW))
    except UnicodeError:
        pass
    if b"+" in body:
        literal = parse_qsl(body.replace(b"+", b"%2B").decode("utf-8", "surrogateescape"), keep_blank_values=True)
        text = "plus signs of values were written unescaped, and read as blanks"
        yield Guess(_joined(literal), Finding("form_plus", text, "escape them as %2B"))


def _joined(fields: Sequence[tuple[str, str]]) -> str:
    return "".join(name + value for name, value in sorted(set(fields))).encode("utf-8", "replace").decode()
