"""What all commands that ask a hub have in common: where it is, and with which key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from config.settings import Settings
from hub.commands.running import CommandError, load_settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def options(command: _Command) -> _Command:
    """The options that all commands have which ask a hub: where, with which key, and as JSON."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, a document a line, instead of a table."),
        click.option("--key", envvar="PARTYLINE_KEY", show_envvar=True, metavar="KEY",
                     help="A service's key, or the operator's; else PARTYLINE_ADMIN_KEY, or admin_key under DATA_DIR."),
        click.option("--url", envvar="PARTYLINE_URL", show_envvar=True, metavar="URL",
                     help="The hub; else the one on this machine, at HOST and PORT of the settings."),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Place:
    """A hub and the key to ask it with."""

    url: str
    key: str


def place_of(url: str | None, key: str | None) -> Place:
    """Where the hub is, and the key: what was given, else as the settings of this machine say. Nothing is made here.
    Raises `CommandError`.
    """
    settings = load_settings() if not (url and key) else None
    if settings is not None:
        url, key = url or settings.reached_here, key or _kept_key(settings)
    assert url is not None
    assert key is not None
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("is no URL such as http://127.0.0.1:8080", param_hint="--url")
    if not (key.isascii() and key.isprintable()):
        raise CommandError("the key holds characters that no key has")
    return Place(url.rstrip("/"), key)


def _kept_key(settings: Settings) -> str:
    if settings.admin_key is not None:
        return settings.admin_key.get_secret_value()
    try:
        return (settings.data_dir / "admin_key").read_text().strip()
    except OSError:
        raise CommandError(
            "no key: say --key, or set PARTYLINE_KEY or PARTYLINE_ADMIN_KEY, or PARTYLINE_DATA_DIR to where the hub"
            " keeps its admin_key"
        ) from None
