"""Who is at the console: a session cookie of eight hours, opened with an operator's or a service's key (rule H3)."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from aiohttp import web

from hub.actions.register import OPERATOR
from hub.actions.roster import Caller
from hub.domain.eligibility import is_eligible
from hub.http.context import CONTEXT, Context
from hub.store import console_sessions, services
from hub.store.console_sessions import SessionDraft
from hub.store.pool import Connection, Record
from hub.store.sealing import hash_api_key

LASTS: Final = timedelta(hours=8)
"""From the login on, however busy the session is."""
_LONG: Final = 200
"""Characters of a token that none of ours has."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the console; no `caller`: the operator. `csrf` goes into every form."""

    caller: Caller | None
    name: str
    csrf: str

    @property
    def is_operator(self) -> bool:
        """Whether it is the operator."""
        return self.caller is None

    @property
    def service_id(self) -> UUID | None:
        """The service, None for the operator."""
        return self.caller.service_id if self.caller else None

    @property
    def actor(self) -> str:
        """As the audit trail names it."""
        return self.caller.actor if self.caller else OPERATOR

    def may(self, scope: str | None) -> bool:
        """Whether its key has this scope (E3); the operator's has all."""
        return self.caller is None or scope is None or scope in self.caller.scopes


@dataclass(frozen=True, slots=True)
class Session:
    """A session that holds: whose, found by which hash, until when, and what the next page is to say."""

    viewer: Viewer
    token_hash: bytes
    expires_at: datetime
    notice: str | None


def cookie_name(context: Context) -> str:
    """Behind https the cookie is bound to this very host, and browsers see to it."""
    return "__Host-partyline" if is_secure(context) else "partyline_session"


def is_secure(context: Context) -> bool:
    """Whether people reach the hub by https."""
    return context.public_url.startswith("https://")


async def log_in(conn: Connection, context: Context, key: str) -> str | None:
    """Begin a session with a key; gives its token, a new one each time. None: the key is nobody's."""
    given = hash_api_key(key)
    is_operator = hmac.compare_digest(given, hash_api_key(context.admin_key))
    row = None if is_operator else await services.find_by_key(conn, given)
    if row is None and not is_operator:
        return None
    token = secrets.token_urlsafe(32)
    draft = SessionDraft(
        hash_token(token),
        row["key_id"] if row else None,
        prove(hash_token(token), context.admin_key) if is_operator else None,
        secrets.token_urlsafe(32),
    )
    await console_sessions.add_session(conn, draft, LASTS)
    return token


def hash_token(token: str) -> bytes:
    """What a session is found by."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def prove(token_hash: bytes, admin_key: str) -> bytes:
    """What ties a session to the operator's key: another key, and it does not fit any more."""
    return hmac.digest(hash_api_key(admin_key), b"console" + token_hash, "sha256")


def token_of(request: web.Request) -> str | None:
    """The session cookie of a request."""
    token = request.cookies.get(cookie_name(request.app[CONTEXT]))
    return token if token and len(token) < _LONG else None


async def find_session(request: web.Request) -> Session | None:
    """The session of a request, if it has one that holds. Raises `Unavailable`."""
    context, token = request.app[CONTEXT], token_of(request)
    if token is None:
        return None
    token_hash = hash_token(token)
    async with context.database.reading() as conn:
        row = await console_sessions.find_session(conn, token_hash)
    if row is None or not holds(context, token_hash, row["operator_proof"]):
        return None
    return Session(_viewer(context, row), token_hash, row["expires_at"], row["notice"])


def holds(context: Context, token_hash: bytes, operator_proof: bytes | None) -> bool:
    """Whether an operator's session was opened with the key that is the operator's now."""
    return operator_proof is None or hmac.compare_digest(operator_proof, prove(token_hash, context.admin_key))


def _viewer(context: Context, row: Record) -> Viewer:
    if row["id"] is None:
        return Viewer(None, "Operator", row["csrf"])
    eligible = is_eligible(
        context.eligibility,
        plan=row["plan"],
        product=row["product"],
        upgraded_from_standalone=row["upgraded_from_standalone"],
    )
    return Viewer(Caller(row["id"], row["name"], frozenset(row["scopes"]), eligible), row["name"], row["csrf"])


async def find_viewer(request: web.Request) -> Viewer | None:
    """Who is logged in, for pages that a key opens, too."""
    session = await find_session(request)
    return session.viewer if session else None


def set_cookie(request: web.Request, response: web.StreamResponse, token: str) -> None:
    """Hand the token to the browser."""
    context = request.app[CONTEXT]
    response.set_cookie(
        cookie_name(context),
        token,
        max_age=int(LASTS.total_seconds()),
        path="/",
        secure=is_secure(context),
        httponly=True,
        samesite="Strict",
    )


def drop_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Have the browser forget it."""
    context = request.app[CONTEXT]
    response.del_cookie(cookie_name(context), path="/", secure=is_secure(context), httponly=True, samesite="Strict")
