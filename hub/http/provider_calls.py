"""Calls to providers that a request waits for: bounded in time, their errors as refusals (rule H1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from hub.domain.errors import Refusal, Unavailable
from providers.base import Refused, SendError

_DOWN: Final = "provider_unavailable"


@asynccontextmanager
async def asking(provider: str, what: str, seconds: float) -> AsyncIterator[None]:
    """Ask a provider, at most so long. Raises `Refusal` with what it said, and what to do."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise _unavailable(provider, what, "timeout") from None
    except Refused as error:
        if error.code == _DOWN:  # by its own words
            raise _unavailable(provider, what, error.code) from error
        refusal = Refusal(
            f"The hub has no credentials to ask {provider} to {what}: set them (rule E10)."
            if error.code == "not_configured"
            else f"{provider} refused to {what}: {error.code}; mend that and ask again (rule E10).",
            code="provider_refused",
            reason=error.code,
            provider=provider,
            provider_code=error.provider_code,
        )
        refusal.status = 502
        raise refusal from error
    except SendError as error:
        raise _unavailable(provider, what, error.code) from error


def _unavailable(provider: str, what: str, reason: str) -> Unavailable:
    return Unavailable(
        f"{provider} could not be asked to {what} ({reason}): try again in a moment (rule E10).",
        code="provider_unavailable",
        reason=reason,
        provider=provider,
    )
