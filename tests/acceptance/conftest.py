"""What a hub answers in any of these tests is what its OpenAPI document says."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from tests.support import contract
from tests.support.database import Server
from tests.support.scenario_stage import (
    JUDGED,
    MAIN,
    NEW_SECRET,
    OLD_SECRET,
    SLOWED,
    Stage,
    at_meta,
    open_stage,
    over_sms,
)

contract.install()


@pytest.fixture(autouse=True)
def as_documented() -> Iterator[None]:
    """Fails the test whose hub answered, or told a service, what the document does not know."""
    contract.told()
    yield
    found = contract.told()
    assert not found, "\n".join(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One hub for all scenarios of a module."""
    numbers = {one: [at_meta(one), over_sms(one)] for one in (MAIN, JUDGED, SLOWED)}
    secrets = {"meta_app_secrets": (SecretStr(OLD_SECRET), SecretStr(NEW_SECRET))}
    async with server.fresh() as url, open_stage(url, tmp_path_factory.mktemp("hub"), numbers, **secrets) as made:
        yield made
