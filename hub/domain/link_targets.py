"""Where a tracked link may lead, and what is added to it on the way (rule F, tracked links).

The target becomes a `Location` header in the browser of a customer. It is brought into the one form that every parser
reads alike: a scheme, a host in ASCII, a port, and the rest in printable ASCII.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_plus

import idna

from hub.domain.endpoints import is_public, unwrapped
from hub.domain.errors import Invalid

MAX_LENGTH: Final = 2048
"""Characters of a target, in the form it is stored and sent in."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Spaces, controls, halves of surrogate pairs, what breaks out of a header or an attribute, and the backslash, which
# browsers take for a slash and others do not.
_NEVER: Final = re.compile(r"[\x00-\x20\x7f-\x9f\s\"<>\\`\ud800-\udfff]")
_PARTS: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]*\]|[^\[\]:@/?#%]+)(?::(?P<port>[0-9]{0,5}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE | re.DOTALL,
)
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A last label that is a number makes the whole an IPv4 address in one of inet_aton's spellings.
_NAME: Final = re.compile(rf"(?!(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?$)(?=.{{1,253}}\.?$)(?:{_LABEL}\.)*{_LABEL}\.?")
_ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))
_PRIVATE_ZONES: Final = (
    "localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa",
)  # fmt: skip
"""Names that mean something else in every network: RFC 6761, 6762, 8375, ICANN's `internal`, and what is in use."""
_METADATA: Final = frozenset({"168.63.129.16"})
"""Clouds' inner services at addresses that look public (Azure). All others are link-local, private or `.internal`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A URL taken apart: the host as `ascii_host` gives it; `rest`, from the first `/`, `?` or `#` on, as written."""

    scheme: str
    host: str
    port: int | None
    rest: str


def split_url(url: str) -> Parts:
    """Take an http or https URL apart, wherever it leads. Raises `Invalid` (`link_target_invalid`)."""
    if len(url) > MAX_LENGTH:
        raise _invalid(f"is longer than {MAX_LENGTH} characters")
    if _NEVER.search(url):
        raise _invalid("has spaces, quotes, backslashes or control characters; percent-encode them")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise _invalid("must be http:// or https:// with a host, without a user or password")
    port = int(parts["port"]) if parts["port"] else None
    if port is not None and not 0 < port < 65536:
        raise _invalid("has a port that is none")
    return Parts(parts["scheme"].lower(), ascii_host(parts["host"]), port, parts["rest"] or "")


def check_target(url: str, own_domains: Collection[str] = ()) -> str:
    """The target in its one form: host in ASCII, no default port, all beyond ASCII percent-encoded, the rest as it is.

    `own_domains` (lower-case ASCII) are the operator's sites, which may be private; names under them count too. A
    public name that resolves to a private address cannot be told from here; the hub itself never calls a target.
    Raises `Invalid` (`link_target_invalid`, `link_target_not_allowed`).
    """
    parts = split_url(url)
    if _is_private(parts.host) and not is_under(parts.host, own_domains):
        raise Invalid(
            "A tracked link leads to a public address or to one of your own sites, not into a private network "
            "(rule F); send this link untracked.",
            code="link_target_not_allowed",
        )
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    target = f"{parts.scheme}://{parts.host}{port}{quote(parts.rest, safe=_ASCII)}"
    if len(target) > MAX_LENGTH:
        raise _invalid(f"is longer than {MAX_LENGTH} characters once it is percent-encoded")
    return target


def ascii_host(host: str) -> str:
    """The host as it goes over the wire: IDNA, lower case, addresses in their canonical form.

    Raises `Invalid` (`link_target_invalid`).
    """
    if host.startswith("["):
        return f"[{_address(host[1:-1])}]"
    if not all(char.isascii() or unicodedata.category(char)[0] in "LMN" for char in host):
        raise _invalid("has a host that is no name")
    name = ".".join(map(_ascii_label, host.split(".")))
    if _NAME.fullmatch(name):
        return name
    return _address(name)


def is_under(host: str, domains: Collection[str]) -> bool:
    """Whether a host is one of these domains or a name below one."""
    name = host.removesuffix(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def add_utm(target: str, params: Mapping[str, str]) -> str:
    """The target with those `utm_*` parameters it does not have yet, behind its query; what is there stays untouched.

    `target` is one that `check_target` returned. Where it would get too long, it stays without any of them. Raises
    ValueError for other parameters.
    """
    if not all(name.startswith("utm_") for name in params):
        raise ValueError("only utm_ parameters are added to a link")
    url, hash_, fragment = target.partition("#")
    base, _, query = url.partition("?")
    present = {unquote_plus(pair.partition("=")[0]).casefold() for pair in query.split("&")}
    added = [
        f"{quote(name, safe='')}={quote(value, safe='')}"
        for name, value in params.items()
        if value and name.casefold() not in present
    ]
    if not added:
        return target
    glue = "&" if query and not query.endswith("&") else ""
    tagged = f"{base}?{query}{glue}{'&'.join(added)}{hash_}{fragment}"
    return tagged if len(tagged) <= MAX_LENGTH else target


def _ascii_label(label: str) -> str:
    if label.isascii() and not label.lower().startswith("xn--"):
        return label.lower()  # IDNA would refuse underscores, which hosts have all the same
    try:
        return idna.encode(label, uts46=True).decode()
    except idna.IDNAError:
        raise _invalid("has a host that IDNA does not know") from None


def _address(text: str) -> str:
    try:
        return ipaddress.ip_address(text).compressed
    except ValueError:
        raise _invalid("has a host that is neither a name nor an address") from None


def _is_private(host: str) -> bool:
    name = host.removesuffix(".")
    try:
        address = unwrapped(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return "." not in name or is_under(name, _PRIVATE_ZONES)
    return not is_public(address) or str(address) in _METADATA


def _invalid(what: str) -> Invalid:
    return Invalid(f"The target of the link {what} (rule F).", code="link_target_invalid")
