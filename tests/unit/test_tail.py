"""What `partyline tail` takes and prints."""

from typing import Any

import pytest
from click.testing import CliRunner

from hub.commands.tail import summary, tail


def test_a_type_that_there_is_not_is_refused_with_those_there_are() -> None:
    done = CliRunner().invoke(tail, ["--type", "message.recieved"])
    assert (done.exit_code, "'message.received'" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"service": {"id": "svc_1", "name": "probe"}, "role": "subscriber"}, "service probe"),
        ({"contact": {"name": "Mia"}, "collision": {"code": "picked_up", "agents": []}}, "Mia collision picked_up"),
        ({"contact": {"name": "Mia"}, "missing": {"first": 1}}, 'Mia missing {"first":1}'),
        ({"contact": {"name": "Mia"}, "message": {"text": "Hello"}}, "Mia: Hello"),
        ({"message": {"author": {"name": "crm"}, "status": "queued", "masked": True}}, "crm: queued masked"),
    ],
    ids=["named", "coded", "neither", "customer", "masked"],
)
def test_an_event_in_a_few_words(data: dict[str, Any], words: str) -> None:
    assert summary(data) == words
