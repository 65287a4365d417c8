"""Fixtures: one PostgreSQL for the session, a fresh database and a whole hub for a test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import database
from tests.support.world import World, world


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
