"""The part of `partyline check` that looks at the settings and this machine, and asks nobody."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from config.settings import ROLES, Settings
from hub import app
from hub.check_findings import Finding, fail, ok, warn
from hub.domain.endpoints import EndpointPolicy
from hub.domain.link_targets import is_under
from hub.store.sealing import KeyProblem, Sealer

_SHORT_KEY: Final = 20
"""Characters below which an operator's key can be guessed."""
_FEW_FILES: Final = 4096
"""Open files that a hub under load needs: sockets of customers' browsers, of services, of providers."""
_FULL: Final = 0.05
_LITTLE: Final = 1024**3
_NOTHING: Final = 200 * 1024**2
"""Bytes left of a disk: below the part or the first, it is nearly full; below the second, full."""
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_OF_CONTAINER: Final = frozenset({"overlay", "aufs"})


def look(settings: Settings) -> list[Finding]:
    """All of it."""
    findings = [ok("settings", "settings", "every setting is readable")]
    for check in (
        _public_url, _keys, _eligibility, _endpoints, _meta, _twilio, _roles, _links, _data_dir, _disk, _files, _spools,
    ):  # fmt: skip
        findings += check(settings)
    return findings


# URLs -----------------------------------------------------------------------------------------------------------------


def _public_url(settings: Settings) -> list[Finding]:
    name, url = "PUBLIC_URL", settings.reached_at
    parts = urlsplit(url)
    is_local = _is_local(parts.hostname or "")
    if is_local and parts.scheme == "http" and settings.port not in {0, parts.port or 80}:
        cure = f"set the URL that providers reach; on this machine the hub would be at port {settings.port}"
        return [fail("public_url_port", name, f"{url} is this machine, and the hub listens on {settings.port}", cure)]
    if parts.scheme != "https":
        cure = "providers post to https only: set the URL they reach"
        return [warn("public_url_not_https", name, f"{url} is not https", cure)]
    if is_local:
        return [warn("public_url_local", name, f"{url} is this machine", "set the URL that providers reach")]
    if parts.path:
        cure = f"fine if your proxy takes {parts.path} off; else leave the path out"
        return [warn("public_url_path", name, f"{url} has a path; the hub serves from the root", cure)]
    return [ok("public_url", name, url)]


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _links(settings: Settings) -> list[Finding]:
    """Whether links and trackers are where browsers give them their cookies (rule F)."""
    name = "links"
    if not settings.link_base_url:
        missing = settings.site_domains or settings.collector_base_url
        cure = "set LINK_BASE_URL to a host of the site's domain, as https://go.shop.example"
        return [warn("links_off", name, "sites are set, but no links are tracked", cure)] if missing else []
    findings = []
    link = urlsplit(settings.link_base_url)
    host, collector = link.hostname or "", urlsplit(settings.collector_base_url or settings.link_base_url).hostname
    if link.scheme != "https" and not _is_local(host):
        cure = "serve it over https: browsers take its cookie from there only"
        findings.append(fail("link_host_not_https", name, f"{settings.link_base_url} is not https", cure))
    if host == urlsplit(settings.reached_at).hostname:
        cure = "give links a host of their own: customers see it, and it serves nothing else"
        findings.append(warn("link_host_shared", name, f"{host} is the host of the API, too", cure))
    if not settings.site_domains:
        cure = "set SITE_DOMAINS to the domains of the sites that links lead to"
        findings.append(warn("site_domains_missing", name, "no site may report visits: SITE_DOMAINS is empty", cure))
    else:
        sites = ", ".join(settings.site_domains)
        for code, what, where in (("link_host_foreign", "LINK_BASE_URL", host),
                                  ("collector_foreign", "COLLECTOR_BASE_URL", collector or "")):  # fmt: skip
            if not is_under(where, settings.site_domains) and (code != "collector_foreign" or where != host):
                cure = f"use a host under one of {sites}: elsewhere browsers keep its cookie apart, and visits are lost"
                findings.append(warn(code, name, f"{what} ({where}) is on no domain of SITE_DOMAINS", cure))
    return findings or [ok("links", name, f"{settings.link_base_url}, for {', '.join(settings.site_domains)}")]


# Keys, rules, providers -----------------------------------------------------------------------------------------------


def _keys(settings: Settings) -> list[Finding]:
    return [_admin_key(settings), _secret_keys(settings)]


def _admin_key(settings: Settings) -> Finding:
    name = "ADMIN_KEY"
    if settings.admin_key is None:
        return _kept(settings, name, "admin_key")
    if len(settings.admin_key.get_secret_value()) < _SHORT_KEY:
        return warn("admin_key_short", name, "is short", "make one: openssl rand -base64 32")
    return ok("admin_key", name, "configured")


def _secret_keys(settings: Settings) -> Finding:
    name = "SECRET_KEYS"
    if not settings.secret_keys:
        return _kept(settings, name, "secret_key")
    try:
        Sealer([key.get_secret_value() for key in settings.secret_keys])
    except KeyProblem as error:
        return fail("secret_keys_invalid", name, str(error), "make one: openssl rand -base64 32")
    return ok("secret_keys", name, f"{len(settings.secret_keys)} configured, the first encrypts")


def _kept(settings: Settings, name: str, file: str) -> Finding:
    """A key that the hub makes and keeps under DATA_DIR; here nothing is made."""
    path, code = settings.data_dir / file, name.lower()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ok(code, name, f"will be made at the first start, in {path}")
    except OSError as error:
        cure = "let the hub's user read it, or configure the key"
        return fail(f"{code}_unreadable", name, f"{path}: {error.strerror}", cure)
    if not os.access(path, os.R_OK):
        cure = "run the hub and its commands as one user"
        return fail(f"{code}_unreadable", name, f"{path} is another user's", cure)
    if mode & 0o077:
        return warn(f"{code}_exposed", name, f"others may read {path}", f"chmod 600 {path}")
    return ok(code, name, f"kept in {path}")


def _eligibility(settings: Settings) -> list[Finding]:
    name = "ELIGIBILITY_FILE"
    try:
        rules = app.load_eligibility(settings)
    except (app.Unfit, OSError) as error:
        return [fail("eligibility_file_invalid", name, str(error), "mend it as config/eligibility.toml")]
    return [ok("eligibility_file", name, f"{len(rules)} rules")]


def _endpoints(settings: Settings) -> list[Finding]:
    name, code = "ALLOW_PRIVATE_ENDPOINTS", "private_endpoints"
    try:
        policy = EndpointPolicy.parse(settings.allow_private_endpoints)
    except ValueError as error:
        return [fail(f"{code}_invalid", name, str(error), "off, on, or networks such as 10.0.0.0/8,127.0.0.0/8")]
    if any(network.prefixlen == 0 for network in policy.networks):
        cure = "name the networks your services live in"
        return [warn(f"{code}_all", name, "any address may be called", cure)]
    return [ok(code, name, settings.allow_private_endpoints or "off")]


def _meta(settings: Settings) -> list[Finding]:
    needed = {
        "META_APP_SECRETS": settings.meta_app_secrets,
        "META_VERIFY_TOKEN": settings.meta_verify_token,
        "META_ACCESS_TOKEN": settings.meta_access_token,
    }
    return [_provider("Meta", needed, f"its webhook: {settings.reached_at}/webhooks/meta")]


def _twilio(settings: Settings) -> list[Finding]:
    needed = {
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token,
    }
    return [_provider("Twilio", needed, f"its webhook: {settings.reached_at}/webhooks/twilio")]


def _provider(name: str, needed: Mapping[str, object], webhook: str) -> Finding:
    missing = [setting for setting, value in needed.items() if not value]
    code = name.lower()
    if not missing:
        return ok(code, name, f"configured; {webhook}")
    if len(missing) == len(needed):
        return warn(f"{code}_absent", name, "not configured", f"to use it, set {', '.join(missing)}")
    return warn(f"{code}_incomplete", name, "configured in part", f"set {', '.join(missing)}")


def _roles(settings: Settings) -> list[Finding]:
    """The embedded database is one installation's own: roles on other machines cannot share it."""
    if settings.database_url is None and set(settings.roles) != set(ROLES):
        left = ", ".join(role for role in ROLES if role not in settings.roles)
        cure = "set DATABASE_URL to a PostgreSQL server that all of them share, or let one process have all roles"
        found = f"{', '.join(settings.roles)} alone on the embedded database: nobody does {left}"
        return [fail("roles_embedded", "ROLES", found, cure)]
    return []


# This machine ---------------------------------------------------------------------------------------------------------


def _place(settings: Settings) -> Path:
    """DATA_DIR, or the folder in which it would be made."""
    path = settings.data_dir.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _data_dir(settings: Settings) -> list[Finding]:
    """Whether it can be written, or made, without making it; and whether what is in it lasts."""
    name, path, place = "DATA_DIR", settings.data_dir.absolute(), _place(settings)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        cure = "let the hub's user write there, or set another DATA_DIR"
        return [fail("data_dir_unwritable", name, f"{place} cannot be written: {error.strerror}", cure)]
    kind = filesystem_of(place)
    cure = "put it on a disk that stays: a volume, in a container"
    if kind in _IN_MEMORY:
        what = "keys and webhooks that wait" if settings.database_url else "the database, keys and webhooks that wait"
        made = warn if settings.database_url else fail
        return [made("data_dir_volatile", name, f"{path} is in memory ({kind}): a restart loses {what}", cure)]
    if kind in _OF_CONTAINER and _is_container():
        return [warn("data_dir_of_container", name, f"{path} ends with its container ({kind})", cure)]
    return [ok("data_dir", name, f"{path} {'is writable' if place == path else 'can be made'}")]


def filesystem_of(place: Path) -> str:
    """The type of the file system that a folder is on; empty where the machine does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    found, where = "", place.resolve()
    longest = 0
    for line in lines:
        parts = line.split()
        folder = Path(parts[1].encode().decode("unicode_escape")) if len(parts) > 2 else Path("/none")
        if where.is_relative_to(folder) and len(folder.parts) >= longest:
            longest, found = len(folder.parts), parts[2]
    return found


def _is_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _disk(settings: Settings) -> list[Finding]:
    place = _place(settings)
    usage = shutil.disk_usage(place)
    left = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.0f} left where {place} is"
    cure = "make room: a full disk stops the database, and the spool that catches webhooks"
    if usage.free < _NOTHING:
        return [fail("disk_full", "disk", left, cure)]
    if usage.free < _LITTLE or usage.free < _FULL * usage.total:
        return [warn("disk_nearly_full", "disk", left, cure)]
    return [ok("disk", "disk", left)]


def _files(settings: Settings) -> list[Finding]:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= few < _FEW_FILES:
        cure = f"ulimit -n {min(most, 65536) if most > 0 else 65536}, or LimitNOFILE= where the hub is started"
        return [warn("few_files", "open files", f"{few} at most, of this shell; {_FEW_FILES} are little", cure)]
    return [ok("open_files", "open files", "unlimited" if few < 0 else f"{few} at most")]


def _spools(settings: Settings) -> list[Finding]:
    """Webhooks and clicks that wait on disk for the database (B3)."""
    findings = []
    for folder, what in (("spool", "webhooks of Twilio's"), ("clicks", "clicks")):
        try:
            waiting = [path for path in (settings.data_dir / folder).iterdir() if path.is_file()]
            sizes = [path.stat() for path in waiting]
        except OSError:
            continue
        full = [stat for stat in sizes if stat.st_size]
        if full:
            age = time.time() - min(stat.st_mtime for stat in full)
            found = f"{len(full)} files of {what} wait for the database, the oldest since {age:.0f} s"
            cure = "they are taken in by themselves once a hub runs and reaches its database; if not, see its log"
            findings.append(warn(f"{folder}_waiting", "spool", found, cure))
    return findings
