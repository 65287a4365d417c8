"""What commands print: data on standard output, as tables or JSON, and everything else on standard error.

Tables are as wide as they need where they are piped; colours, and bars of long work, are for terminals only (NO_COLOR
is heeded).
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDE: Final = 4000
"""Columns of what is no terminal: no cell is folded."""
_CONTROL: Final = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


class _Console(Console):
    """One that leaves it to the command what is done when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Whoever reads the output has gone."""
        raise BrokenPipeError


def console(*, is_error: bool = False) -> Console:
    """Standard output or standard error as they are now."""
    file = sys.stderr if is_error else sys.stdout
    made = _Console(file=file, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def plain(value: Any) -> str:
    """A value as a cell shows it: nothing that customers write moves the cursor or colours the screen."""
    return escape(str("" if value is None else value).translate(_CONTROL))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table of plain values."""
    table = Table(*headings, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(plain, row))
    console().print(table)


def print_json(value: Any) -> None:
    """One document on a line of its own; in UTF-8 whatever the terminal's encoding, as JSON is."""
    click.echo(orjson.dumps(value, option=orjson.OPT_UTC_Z, default=str))


def say(text: str) -> None:
    """A message to whoever watches: on standard error."""
    click.echo(text, err=True)


@contextmanager
def progress(what: str, total: float | None) -> Iterator["Bar"]:
    """A bar on standard error while work goes on; nothing where that is no terminal. `total` None: nobody knows."""
    watched = console(is_error=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        console=watched, transient=True, disable=not watched.is_terminal,
    ) as shown:  # fmt: skip
        yield Bar(shown, shown.add_task(what, total=total, note=""))


class Bar:
    """How far some work has come."""

    def __init__(self, shown: Progress, task: TaskID) -> None:
        self._shown = shown
        self._task = task

    def at(self, done: float, note: str = "") -> None:
        """It has come so far; `note` says it in other words."""
        self._shown.update(self._task, completed=done, note=note)

    def step(self) -> None:
        """One more is done."""
        self._shown.advance(self._task)
