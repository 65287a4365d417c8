"""Is it alive, may it get traffic."""

from typing import Literal

from hub.http.answers.base import Strict


class Alive(Strict):
    """The process answers."""

    status: Literal["alive"]


class Ready(Strict):
    """Database there, migrations run, loops alive."""

    status: Literal["ready"]


class NotReady(Strict):
    """What is wrong."""

    status: Literal["not_ready"]
    problems: list[str]
