"""What all trials came to, at the end."""

from collections.abc import Iterator

import pytest

from tests.soak import trial


@pytest.fixture(autouse=True, scope="session")
def table() -> Iterator[None]:
    """One table of all of them."""
    yield
    if trial.ROWS:
        trial.print_table()
