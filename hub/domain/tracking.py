"""How links and visits are tracked, as configured: where, on which sites, and with whose consent."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from hub.domain.stitching import site_of

ConsentMode = Literal["required", "implied", "off"]
"""Who is tracked: who agreed; who has not refused; everybody. Global Privacy Control is a refusal in each."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """The tracking part of the configuration. `link_base` and `collector_base` are URLs without a slash at the end;
    without a `link_base` no link is tracked. `sites`: the tracked domains, lower-case.
    """

    link_base: str = ""
    collector_base: str = ""
    sites: tuple[str, ...] = ()
    consent: ConsentMode = "required"

    @property
    def link_authority(self) -> str:
        """What the `Host` header of requests to tracked links says: a name, and a port that is not the usual one."""
        return authority_of(self.link_base)

    @property
    def link_host(self) -> str:
        """The same without a port."""
        return urlsplit(self.link_base).hostname or ""

    @property
    def collector_authority(self) -> str:
        """What the `Host` header of trackers' requests says."""
        return authority_of(self.collector_base or self.link_base)

    def site(self, url: str) -> str | None:
        """The tracked site that a URL is on; None: on none."""
        host = urlsplit(url).hostname
        return site_of(host, self.sites) if host else None

    def is_foreign(self, site: str) -> bool:
        """Whether links are served outside of a site's domain, so that cookies of theirs are not seen from it: a key in
        the fragment then tells which click a visit belongs to.
        """
        return site_of(self.link_host, (site,)) is None or self.link_authority != self.collector_authority

    def has_own_collector(self, site: str) -> bool:
        """Whether the collector is on the site's own domain; a cookie elsewhere has to be a partitioned one."""
        host = urlsplit(self.collector_base or self.link_base).hostname or ""
        return site_of(host, (site,)) is not None


def authority_of(base: str) -> str:
    """The `Host` header of requests to a base URL, lower-case."""
    parts = urlsplit(base)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in {None, usual} else f"{host}:{parts.port}"
