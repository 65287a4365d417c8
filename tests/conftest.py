"""Fixtures: one PostgreSQL for the session, a fresh database and a whole hub for a test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from tests.support import database, known_types
from tests.support.world import Open, World, world

settings.register_profile("untimed", deadline=None, max_examples=60)  # how long something takes is for `make bench`
settings.load_profile("untimed")
# Errors that tests provoke are logged; to colour their traces, with all variables, would take a tenth of the time.
_PLAIN = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
known_types.ask_once()
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _PLAIN])


@pytest.fixture(scope="session")
def server() -> Iterator[database.Server]:
    """The PostgreSQL that tests share."""
    with database.server() as made:
        yield made


@pytest.fixture
async def database_url(server: database.Server) -> AsyncIterator[str]:
    """A migrated, empty database."""
    async with server.fresh() as url:
        yield url


@pytest.fixture
async def hub_world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A hub with simulated providers and one registered number."""
    async with world(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def open_world(database_url: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a hub with other settings than the usual."""
    async with AsyncExitStack() as stack:

        async def opener(**more: Any) -> World:
            return await stack.enter_async_context(world(database_url, tmp_path, **more))

        yield opener
