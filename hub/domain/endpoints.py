"""Where subscribers may live: the guard against making the hub call into its own network (SSRF)."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from hub.domain.errors import Invalid

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that was ever given out (IANA, IPv6 address space)."""
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "3fff::/20")))
"""Special-purpose networks that `is_global` of some Python versions does not know."""
_MAX_URL: Final = 2048
# Strict on purpose: what two parsers could read differently (users, spaces, backslashes, escapes in the host, letters
# that IDNA turns into digits) is no endpoint.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[0-9a-f]*:[0-9a-f:.]*)\]|(?P<name>[a-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?][!\x22$-\[\]-~]*)?",
    re.IGNORECASE,
)
# A last label that is a number makes the whole an IPv4 address in one of inet_aton's spellings.
_NAME: Final = re.compile(
    r"(?!(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.(?!$)|\.?$))+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """Global addresses over https always; others, and plain http, only in the networks the operator allowed."""

    networks: tuple[IPNetwork, ...] = ()

    @classmethod
    def parse(cls, setting: str) -> "EndpointPolicy":
        """Read `ALLOW_PRIVATE_ENDPOINTS`: off, on, or networks. Raises ValueError."""
        text = setting.strip().lower()
        if text in {"", "off"}:
            return cls()
        if text == "on":
            return cls((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
        return cls(tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()))

    def may_dial(self, address: str, *, is_plain: bool) -> bool:
        """Whether this very address may be connected to; `is_plain` is http without TLS."""
        ip = unwrapped(ipaddress.ip_address(address.partition("%")[0]))
        if is_public(ip):
            return not is_plain
        return any(ip.version == network.version and ip in network for network in self.networks)

    def check_url(self, url: str) -> None:
        """Refuse what can never be dialled. Names are judged again, by address, at every connection.

        Raises `Invalid` (`endpoint_url_invalid`, `endpoint_not_allowed`).
        """
        parts = _URL.fullmatch(url)
        if not parts or len(url) > _MAX_URL or not 0 < int(parts["port"] or 443) < 65536:
            raise Invalid(
                "the endpoint must be an https URL in ASCII, without a user or a fragment", code="endpoint_url_invalid"
            )
        host = parts["v6"] or parts["name"]
        if not is_literal(host) and not _NAME.fullmatch(host):
            raise Invalid("the endpoint's host is neither a name nor an address", code="endpoint_url_invalid")
        is_plain = parts["scheme"].lower() == "http"
        if is_plain and not self.networks:
            raise Invalid(
                "plain http is only for networks that the operator allows: use https, or have yours put into"
                " PARTYLINE_ALLOW_PRIVATE_ENDPOINTS",
                code="endpoint_not_allowed",
            )
        if is_literal(host) and not self.may_dial(host, is_plain=is_plain):
            raise Invalid(
                f"{host} is not allowed for {'plain http' if is_plain else 'endpoints'}: take a public https address,"
                " or have the operator put its network into PARTYLINE_ALLOW_PRIVATE_ENDPOINTS",
                code="endpoint_not_allowed",
            )


def is_literal(host: str) -> bool:
    """Whether a host is an address rather than a name: such hosts are never resolved."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_public(ip: IPAddress) -> bool:
    """Whether an address is one of the open internet."""
    if ip.version == 6 and ip not in _UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def unwrapped(ip: IPAddress) -> IPAddress:
    """The address that is really meant: IPv4 inside mapped, 6to4, Teredo or NAT64 forms."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None) or ip
