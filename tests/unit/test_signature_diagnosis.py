"""Why a signature does not verify: every mishap is made to a webhook that was right, and has to be found again."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from hub.commands.diagnosis import diagnose, kind_of
from hub.commands.mishaps import Received
from hub.domain.signing import sign
from providers.simulator.signing import sign_meta, sign_twilio

NOW = 1_800_000_000
KEY = b"\xfb\xef\xbe-32 bytes of a signing secret."
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = (
    '{"type":"message.received","timestamp":"2027-01-15T08:00:00Z","data":{"text":"Grüße / 5 €","b":1,"a":2}}'.encode()
)
HEADERS = {
    "webhook-id": "msg_1",
    "webhook-timestamp": str(NOW),
    "webhook-signature": sign([KEY], "msg_1", NOW, BODY),
}
APP_SECRET, TOKEN = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
PLAIN = [("MessageSid", "SM1"), ("From", "+4915112345678")]
URL = "https://hub.example.com/webhooks/twilio"
FORM = [("MessageSid", "SM1"), ("Body", "1 + 1 = ü"), ("From", "+4915112345678"), ("Empty", "")]


def codes(
    kind: Any, headers: Mapping[str, str], body: bytes, *secrets: str, url: str = "", now: float = NOW
) -> list[str]:
    """What is found; nothing where it verifies. No finding gives a secret away."""
    told = diagnose(kind, Received(headers, body, url), secrets, now)
    words = " ".join(finding.text + finding.cure for finding in told.findings)
    assert not any(secret.strip() and secret.strip() in words for secret in (*secrets, SECRET, APP_SECRET, TOKEN))
    assert told.is_valid == ({finding.code for finding in told.findings} <= {"verifies"})
    return [finding.code for finding in told.findings]


def renamed(name: str, new: str) -> dict[str, str]:
    return {new if known == name else known: value for known, value in HEADERS.items()}


def without(name: str) -> dict[str, str]:
    return {known: value for known, value in HEADERS.items() if known != name}


def again(**options: Any) -> bytes:
    """The body parsed and written again."""
    return json.dumps(json.loads(BODY), **options).encode()


STANDARD: dict[str, tuple[Callable[[], tuple[Mapping[str, str], bytes, str]], list[str]]] = {
    "right": (lambda: (HEADERS, BODY, SECRET), []),
    "another secret": (lambda: (HEADERS, BODY, "whsec_" + base64.b64encode(b"x" * 32).decode()), ["wrong_secret"]),
    "no secret": (lambda: (HEADERS, BODY, ""), ["no_secret"]),
    "an API key": (lambda: (HEADERS, BODY, "plk_something"), ["secret_is_api_key", "wrong_secret"]),
    "a line break after the secret": (lambda: (HEADERS, BODY, SECRET + "\n"), ["secret_spaces"]),
    "quotes around the secret": (lambda: (HEADERS, BODY, f'"{SECRET}"'), ["secret_spaces"]),
    "a plus became a blank": (lambda: (HEADERS, BODY, SECRET.replace("+", " ")), ["secret_plus"]),
    "URL-safe base64": (lambda: (HEADERS, BODY, SECRET.replace("+", "-").replace("/", "_")), ["secret_urlsafe"]),
    "no padding": (lambda: (HEADERS, BODY, SECRET.rstrip("=")), ["secret_padding"] if SECRET[-1] == "=" else []),
    "the text as a key": (
        lambda: (HEADERS | {"webhook-signature": sign([SECRET.encode()], "msg_1", NOW, BODY)}, BODY, SECRET),
        ["secret_not_decoded"],
    ),
    "a line break at the end": (lambda: (HEADERS, BODY + b"\n", SECRET), ["body_line_ends"]),
    "a byte order mark": (lambda: (HEADERS, b"\xef\xbb\xbf" + BODY, SECRET), ["body_line_ends"]),
    "written again with blanks": (lambda: (HEADERS, again(ensure_ascii=False), SECRET), ["body_reserialised"]),
    "written again escaped": (lambda: (HEADERS, again(separators=(",", ":")), SECRET), ["body_reserialised"]),
    "written again indented": (lambda: (HEADERS, again(indent=2), SECRET), ["body_reserialised"]),
    "sorted beyond repair": (lambda: (HEADERS, again(sort_keys=True), SECRET), ["wrong_secret", "body_reserialised"]),
    "outermost keys in another order": (
        lambda: (HEADERS, json.dumps(dict(reversed(json.loads(BODY).items()))).encode(), SECRET), ["body_reserialised"],
    ),
    "cut off": (lambda: (HEADERS, BODY[:-5], SECRET), ["wrong_secret", "body_not_json"]),
    "read as latin-1": (lambda: (HEADERS, BODY.decode("latin-1").encode(), SECRET), ["body_charset"]),
    "in base64": (lambda: (HEADERS, base64.b64encode(BODY), SECRET), ["body_base64"]),
    "compressed": (lambda: (HEADERS, gzip.compress(BODY), SECRET), ["body_compressed"]),
    "id missing": (lambda: (without("webhook-id"), BODY, SECRET), ["header_missing"]),
    "id of a gateway": (lambda: (renamed("webhook-id", "webhook_id"), BODY, SECRET), ["header_renamed"]),
    "id of another library": (lambda: (renamed("webhook-id", "svix-id"), BODY, SECRET), ["header_renamed"]),
    "id and timestamp swapped": (
        lambda: (HEADERS | {"webhook-signature": sign([KEY], str(NOW), 1, b"")}, BODY, SECRET), ["wrong_secret"],
    ),
    "no version": (lambda: (HEADERS | {"webhook-signature": HEADERS["webhook-signature"][3:]}, BODY, SECRET),
                   ["signature_form"]),
    "another version": (lambda: (HEADERS | {"webhook-signature": "v1a,AAAA"}, BODY, SECRET), ["signature_form"]),
    "joined by a comma": (
        lambda: (HEADERS | {"webhook-signature": "v1," + "A" * 43 + "=," + HEADERS["webhook-signature"]}, BODY, SECRET),
        ["signature_joined"],
    ),
    "in milliseconds": (lambda: (HEADERS | {"webhook-timestamp": f"{NOW}000"}, BODY, SECRET), ["timestamp_form"]),
    "no number": (lambda: (HEADERS | {"webhook-timestamp": "now"}, BODY, SECRET), ["timestamp_form", "wrong_secret"]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STANDARD))
def test_standard_webhooks(name: str) -> None:
    make, expected = STANDARD[name]
    headers, body, secret = make()
    assert codes("standard", headers, body, secret) == expected


def test_time_and_several_secrets() -> None:
    assert codes("standard", HEADERS, BODY, SECRET, now=NOW + 301) == ["too_old"]
    assert codes("standard", HEADERS, BODY, SECRET, now=NOW - 301) == ["from_the_future"]
    assert codes("standard", HEADERS, BODY, "whsec_AAAA", SECRET) == ["verifies"]
    swapped = f"{NOW}.msg_1.".encode() + BODY
    signed = "v1," + base64.b64encode(hashlib.sha256().digest()[:0] + _hmac(swapped)).decode()
    assert codes("standard", HEADERS | {"webhook-signature": signed}, BODY, SECRET) == ["id_timestamp_swapped"]
    alone = "v1," + base64.b64encode(_hmac(BODY)).decode()
    assert codes("standard", HEADERS | {"webhook-signature": alone}, BODY, SECRET) == ["body_alone_signed"]


def _hmac(text: bytes) -> bytes:
    import hmac

    return hmac.digest(KEY, text, hashlib.sha256)


def test_meta() -> None:
    body = json.dumps({"entry": [{"text": "Grüße a/b"}]}, separators=(",", ":")).replace("/", r"\/").encode()
    signed = {"x-hub-signature-256": sign_meta(body, APP_SECRET)}

    def found(headers: Mapping[str, str] = signed, sent: bytes = body, secret: str = APP_SECRET) -> list[str]:
        return codes("meta", headers, sent, secret)

    assert kind_of(signed) == "meta"
    assert found() == []
    assert found(secret=APP_SECRET + " ") == ["secret_spaces"]
    assert found(secret="EAAB123") == ["secret_is_token", "wrong_secret"]
    assert found(sent=json.dumps(json.loads(body)).encode()) == ["body_reserialised"]
    assert found(sent=json.dumps(json.loads(body), ensure_ascii=False).encode()) == ["body_reserialised"]
    assert found(sent=body + b"\r\n") == ["body_line_ends"]
    assert found(sent=body.replace(b"a", b"b")) == ["wrong_secret"]
    assert found({"x-hub-signature": "sha1=00"}) == ["header_missing"]
    assert found({"x-hub-signature-256": signed["x-hub-signature-256"][7:]}) == ["signature_form"]
    assert found({"x-hub-signature-256": "sha256=12"}) == ["signature_form"]
    assert found({"http-x-hub-signature-256": signed["x-hub-signature-256"]}) == ["header_renamed"]


def test_twilio() -> None:
    signed = {"x-twilio-signature": sign_twilio(URL, FORM, TOKEN), "host": "hub.example.com"}
    body = urlencode(FORM).encode()

    def found(url: str = URL, sent: bytes = body, secret: str = TOKEN, **headers: str) -> list[str]:
        return codes("twilio", signed | headers, sent, secret, url=url)

    assert kind_of(signed) == "twilio"
    assert found() == []
    host, path = "hub.example.com", "webhooks/twilio"
    for wrong in (f"http://{host}/{path}", f"https://{host}:443/{path}", URL + "/", f"http://10.0.0.7:8080/{path}",
                  URL + "?a=1", f"https://{host}/app/{path}"):  # fmt: skip
        assert found(wrong) == ["url_differs"], wrong
    assert found(secret="another") == ["wrong_secret", "url_differs"]
    assert found(secret=f"'{TOKEN}'") == ["secret_spaces"]
    assert found("") == ["no_url"]
    plain = {"x-twilio-signature": sign_twilio(URL, PLAIN, TOKEN)}
    assert found(sent=urlencode(PLAIN, safe="+").encode(), **plain) == ["form_plus"]
    assert found(sent=urlencode([*FORM, ("More", "x")]).encode()) == ["wrong_secret", "url_differs"]
    assert codes("twilio", {}, body, TOKEN, url=URL) == ["header_missing"]

    document = b'{"MessageSid":"SM1"}'
    hashed = f"{URL}?bodySHA256={hashlib.sha256(document).hexdigest()}"
    headers = {"content-type": "application/json", "x-twilio-signature": sign_twilio(hashed, [], TOKEN)}
    assert codes("twilio", headers, document, TOKEN, url=hashed) == []
    assert codes("twilio", headers, document + b"\n", TOKEN, url=hashed) == ["body_line_ends"]
    assert codes("twilio", headers, b"{}", TOKEN, url=hashed) == ["body_changed"]
    assert codes("twilio", headers, document, TOKEN, url=URL)[0] == "body_hash_missing"
