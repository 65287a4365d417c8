"""Which links of a message stay as they are (rule F, tracked links)."""

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Final, Literal
from urllib.parse import unquote_plus

from hub.domain.errors import Invalid
from hub.domain.link_targets import Parts, ascii_host, check_target, is_under, split_url

Reason = Literal["not_http", "target_refused", "link_host", "messenger", "opt_out", "signed", "media"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HTTP: Final = re.compile(r"https?://", re.IGNORECASE)
_MESSENGERS: Final = ("wa.me", "whatsapp.com")
"""Hosts whose links open the app by themselves; behind a redirect they open a page."""
_MEDIA: Final = _words(
    "jpg jpeg png gif webp bmp svg ico heic heif avif tif tiff "
    "mp3 m4a aac ogg oga opus wav flac amr "
    "mp4 m4v mov 3gp 3gpp webm mkv avi mpg mpeg"
)
"""Files that machines fetch and show. A PDF is not among them: somebody opens it by a click, like a page."""
_OPT_OUT: Final = _words(
    "unsubscribe unsubscribed unsub optout stop listunsubscribe oneclickunsubscribe emailunsubscribe "  # English
    "abmelden abmeldung abbestellen abbestellung newsletterabmeldung "  # German
    "desinscription desinscrire sedesinscrire desabonner sedesabonner desabonnement "  # French
    "desuscribir desuscribirse desuscripcion cancelarsuscripcion darsedebaja dardebaja baja "  # Spanish
    "disiscriviti disiscrizione cancellaiscrizione annullaiscrizione "  # Italian
    "descadastrar descadastro cancelarinscricao cancelarsubscricao "  # Portuguese
    "afmelden uitschrijven avregistrera avprenumerera afmeld avmeld wypisz odhlasit "  # nl, sv, da, nb, pl, cs
    "配信停止 退订 退訂 отписаться отписка"
)
"""Without accents, hyphens and case. Leaving must work without the hub, and must not count as interest."""
_SECRET_NAMES: Final = _words(
    # Signatures. The long ones (X-Amz-Signature, X-Goog-Signature, X-Oss-Signature, Twilio's ...) end in `signature`;
    # `sig` is Azure's, `hmac` and `sign` shop systems', `hdnts` and `hdnea` Akamai's.
    "sig sign hmac hdnts hdnea "
    # Proofs of who one is, good once or for minutes: OAuth's `code`, SAML, Firebase's `oobCode`, one-time passwords.
    "code oobcode otp totp jwt nonce auth samlrequest samlresponse "
    # What opens an account by itself.
    "password passwd pwd passcode pin key apikey accesskey authkey activationkey"
)
_SECRET_ENDS: Final = ("token", "signature", "secret", "sessionid", "sessid")
"""access_token, reset-token, X-Amz-Security-Token, user[token], X-Goog-Signature, client_secret, jsessionid ..."""
_ONE_TIME: Final = _words("resetpassword passwordreset magiclink verifyemail confirmemail")
"""Steps of a path before a secret that has no name."""
_EXPIRES: Final = re.compile(r"(?:.*expires?|expiry|exp|validuntil)")
_DIGEST: Final = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_+/=-]{20,}")
"""With an expiry beside it, it is a signature, whatever it is called."""
_JWT: Final = re.compile(r"eyJ[\w-]+(?:\.[\w-]*){2,4}")
"""A JSON Web Token begins with the base64 of an opening brace and a quote."""


def why_untracked(url: str, link_host: str, own_domains: Collection[str] = ()) -> Reason | None:
    """Why this link must not be replaced by a tracked one; None: it may be, and `check_target` takes it.

    `link_host` is a name without a port; `own_domains` as for `check_target`.
    """
    if not _HTTP.match(url):
        return "not_http"
    try:
        parts = split_url(url)
        if parts.host.removesuffix(".") == ascii_host(link_host).removesuffix("."):
            return "link_host"
        check_target(url, own_domains)
    except Invalid:
        return "target_refused"
    return _reason(parts)


def _reason(parts: Parts) -> Reason | None:
    steps, params = _steps(parts.rest), _params(parts.rest)
    names = {_bare(name) for name, _ in params}
    if is_under(parts.host, _MESSENGERS):
        return "messenger"
    words = {_bare(step.partition(".")[0]) for step in steps} | names | {_bare(value) for _, value in params}
    if words & _OPT_OUT or not _OPT_OUT.isdisjoint(map(_bare, parts.host.split("."))):
        return "opt_out"
    if _is_secret(names, [*steps, *(value for _, value in params)]) or words & _ONE_TIME:
        return "signed"
    path = re.split("[?#;]", parts.rest, maxsplit=1)[0]
    _, dot, extension = path.rpartition("/")[2].lower().rpartition(".")
    return "media" if dot and extension in _MEDIA else None


def _is_secret(names: Collection[str], values: Collection[str]) -> bool:
    """Whether a URL carries what only its reader may have, or what only holds for exactly this URL."""
    if any(name in _SECRET_NAMES or name.endswith(_SECRET_ENDS) for name in names):
        return True
    is_expiring = any(map(_EXPIRES.fullmatch, names))
    return any(_JWT.fullmatch(value) or (is_expiring and _DIGEST.fullmatch(value)) for value in values)


def _steps(rest: str) -> list[str]:
    """The steps of the path, and of a fragment that is used like one, decoded."""
    path, _, fragment = rest.partition("#")
    parts = f"{path.partition('?')[0]}/{fragment.partition('?')[0]}"
    return [unquote_plus(step) for step in re.split("[/;]", parts) if step]


def _params(rest: str) -> list[tuple[str, str]]:
    """The parameters in the query, in the steps of the path (`;jsessionid=`) and in the fragment, decoded."""
    return [(unquote_plus(name), unquote_plus(value)) for name, value in _pairs(rest)]


def _pairs(rest: str) -> Iterator[tuple[str, str]]:
    path, _, behind = rest.partition("?")
    for piece in re.split("[&;?#]", ";".join([path.partition(";")[2], behind, rest.partition("#")[2]])):
        name, _, value = piece.partition("=")
        if name:
            yield name, value


def _bare(word: str) -> str:
    """A word without case, accents and whatever joins its parts: `Opt-Out` and `opt_out` are one."""
    letters = unicodedata.normalize("NFKD", word).casefold()
    return "".join(char for char in letters if char.isalnum())
