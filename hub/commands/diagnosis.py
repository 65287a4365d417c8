"""Why a signature does not verify: what arrived is changed back, one likely mishap after the other, until it fits.

Pure. No finding ever holds a secret, or a signature that would have been right.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from hub.commands.judging import Diagnosis, Kind, nothing_fits, search, verdict, with_place
from hub.commands.mishaps import Finding, Guess, Received, bodies, found_header, header
from hub.commands.twilio_diagnosis import judge_twilio

TOLERANCE: Final = 300
"""Seconds that a webhook's time may be off, either way (Standard Webhooks)."""
_STANDARD: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


def kind_of(headers: Mapping[str, str]) -> Kind | None:
    """Whose signature the headers carry."""
    names = set(headers)
    if names & {"x-twilio-signature", "http-x-twilio-signature"}:
        return "twilio"
    if names & {"x-hub-signature-256", "x-hub-signature", "http-x-hub-signature-256"}:
        return "meta"
    return "standard" if any(found_header(headers, name)[0] is not None for name in _STANDARD) else None


def diagnose(kind: Kind, received: Received, secrets: Sequence[str], now: float) -> Diagnosis:
    """Judge a signature, and find out what is wrong with it. `now`: when it arrived, in unix seconds."""
    judge = {"standard": _standard, "meta": _meta, "twilio": judge_twilio}[kind]
    return judge(received, secrets, now)


# Standard Webhooks ----------------------------------------------------------------------------------------------------


def _standard(received: Received, secrets: Sequence[str], now: float) -> Diagnosis:
    values, findings = {}, []
    for name in _STANDARD:
        values[name], wrong = header(received.headers, name)
        findings += wrong
    name, stamp, given = (values[header].strip() for header in _STANDARD)
    signatures, odd = _signatures(given)
    findings += odd + (_late(stamp, now) if stamp else [])
    if not (name and stamp and signatures):
        return verdict("standard", findings, is_valid=False)
    if api_key := next((secret for secret in secrets if secret.strip().startswith("plk_")), None):
        text = "an API key was given for a signing secret"
        cure = "the signing secret begins with whsec_: it is in the answer of the first connect, and of rotate-secret"
        findings += [Finding("secret_is_api_key", text, cure)] if api_key else []
    found = search(secrets, lambda secret: _standard_tries(secret, name, stamp, received.body, signatures))
    if found is None:
        whose = "the signing secret of this very subscription (service and number): whsec_..."
        findings += nothing_fits(received.body, secrets, whose, is_json=True)
        return verdict("standard", findings, is_valid=False)
    place, mishaps = found
    findings += mishaps
    return with_place("standard", findings, place, secrets)


def _signatures(given: str) -> tuple[list[bytes], list[Finding]]:
    """The signatures of a header, `v1,` and base64 each, with blanks in between."""
    if not given:
        return [], []
    findings, found = [], []
    parts = given.split()
    if len(parts) == 1 and given.count("v1,") > 1:
        parts = [f"v1,{part.strip(', ')}" for part in given.split("v1,") if part.strip(", ")]
        text = "the signatures are joined by commas"
        findings.append(Finding("signature_joined", text, "they are parted by blanks: do not join headers"))
    for part in parts:
        version, mark, value = part.partition(",")
        if not mark:
            value = version
            text = "a signature lacks its version: v1,"
            findings.append(Finding("signature_form", text, "pass the whole header on"))
        elif version != "v1":
            continue
        if raw := _digest(value):
            found.append(raw)
    if not found:
        cure = "a signature is v1, and the base64 of 32 bytes: pass the whole header on"
        findings.append(Finding("signature_form", "the header holds no signature that can be read", cure))
    return found, findings


def _digest(value: str) -> bytes | None:
    """The 32 bytes of a signature, in base64 or, as some write it, in hexadecimal digits."""
    if re.fullmatch("[0-9a-fA-F]{64}", value):
        return bytes.fromhex(value)
    try:
        raw = base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == 32 else None


def _late(stamp: str, now: float) -> list[Finding]:
    if not (stamp.isascii() and stamp.isdigit()):
        return [Finding("timestamp_form", "webhook-timestamp is no number of seconds", "pass it on as it came")]
    if len(stamp) >= 13:
        return [Finding("timestamp_form", "webhook-timestamp is in milliseconds", "it is in seconds: as it came")]
    late = now - int(stamp)
    if abs(late) <= TOLERANCE:
        return []
    if late > 0:
        text = f"it is {late:.0f} s old, more than the {TOLERANCE} s that receivers take"
        cure = "verify when it arrives, not later out of a queue; if it just came, set the clock (NTP)"
        return [Finding("too_old", text, cure)]
    text = f"it is {-late:.0f} s ahead of the clock here"
    return [Finding("from_the_future", text, "set the clock (NTP)")]


def _standard_tries(
    secret: str, name: str, stamp: str, body: bytes, signatures: Sequence[bytes]
) -> Iterator[tuple[bool, Sequence[Finding | None]]]:
    for key in _keys(secret):
        for head in _heads(name, stamp):
            for sent in bodies(body):
                made = hmac.digest(key.value, head.value + sent.value, hashlib.sha256)
                fits = any(hmac.compare_digest(made, signature) for signature in signatures)
                yield fits, (key.mishap, head.mishap, sent.mishap)


def _keys(secret: str) -> Iterator[Guess]:
    """The key bytes behind a secret: base64 behind `whsec_`, and what people take for it."""
    text = secret[6:] if secret[:6].lower() == "whsec_" else secret
    padded = text + "=" * (-len(text) % 4)
    wrong = None
    if len(padded) != len(text):
        wrong = Finding("secret_padding", "the secret lacks the = at its end", "take the whole secret")
    elif "-" in text or "_" in text:
        cure = "the secret is in base64 with + and /: take it as it was given"
        wrong = Finding("secret_urlsafe", "the secret is in the URL-safe base64", cure)
    elif secret[:6].lower() == "whsec_" and not secret.startswith("whsec_"):
        wrong = Finding("secret_prefix", "the secret's prefix is in capitals", "it is whsec_")
    with suppress(binascii.Error, ValueError):
        yield Guess(base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True), wrong)
    cure = "decode it: the key is the base64 behind whsec_"
    for raw in dict.fromkeys((secret.encode(), text.encode())):
        yield Guess(raw, Finding("secret_not_decoded", "it is signed with the text of the secret as its key", cure))


def _heads(name: str, stamp: str) -> Iterator[Guess]:
    yield Guess(f"{name}.{stamp}.".encode())
    text = "id and timestamp changed places"
    yield Guess(f"{stamp}.{name}.".encode(), Finding("id_timestamp_swapped", text, "it is id.timestamp.body"))
    if stamp.isdigit() and len(stamp) >= 13:
        yield Guess(f"{name}.{stamp[:-3]}.".encode(), None)
    cure = "it is id.timestamp.body, with the points in between"
    yield Guess(f"{stamp}.".encode(), Finding("id_left_out", "the id is not in what was signed", cure))
    yield Guess(b"", Finding("body_alone_signed", "only the body was signed", cure))


# Meta -----------------------------------------------------------------------------------------------------------------


def _meta(received: Received, secrets: Sequence[str], now: float) -> Diagnosis:
    given, findings = header(received.headers, "x-hub-signature-256")
    given = given.strip()
    if not given:
        if "x-hub-signature" in received.headers:
            cure = "read X-Hub-Signature-256: the other one is SHA-1, and old"
            findings = [Finding("header_missing", "only X-Hub-Signature is there, not X-Hub-Signature-256", cure)]
        return verdict("meta", findings, is_valid=False)
    text = given.removeprefix("sha256=")
    if text == given:
        findings.append(Finding("signature_form", "the signature lacks its sha256=", "pass the whole header on"))
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        cure = "it is sha256= and 64 hexadecimal digits: pass the whole header on"
        return verdict("meta", [*findings, Finding("signature_form", "it is no signature", cure)], is_valid=False)
    if any(secret.strip().startswith("EAA") for secret in secrets):
        cure = "take the app secret: App Dashboard, App settings, Basic"
        findings.append(Finding("secret_is_token", "an access token was given for the app secret", cure))
    signature = bytes.fromhex(text)

    def tries(secret: str) -> Iterator[tuple[bool, Sequence[Finding | None]]]:
        for sent in bodies(received.body):
            made = hmac.digest(secret.encode("utf-8", "surrogatepass"), sent.value, hashlib.sha256)
            yield hmac.compare_digest(made, signature), (sent.mishap,)

    found = search(secrets, tries)
    if found is None:
        whose = "the app secret of the app whose webhook this is (App Dashboard, App settings, Basic)"
        return verdict("meta", [*findings, *nothing_fits(received.body, secrets, whose, is_json=True)], is_valid=False)
    return with_place("meta", [*findings, *found[1]], found[0], secrets)
