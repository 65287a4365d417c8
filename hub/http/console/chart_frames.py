"""What stands around a chart: its title, its numbers as a table, and words where there is nothing to draw."""

import zlib
from collections.abc import Sequence

from markupsafe import Markup


def figure(key: str, title: str, picture: Markup, legend: Markup, numbers: Markup) -> Markup:
    """A chart whole; `key` is its id within the page."""
    folded = (
        Markup('<details class="chart-data" id="{}-data"><summary>Numbers of “{}”</summary>{}</details>').format(
            key, title, numbers
        )
        if numbers
        else Markup()
    )
    return Markup(
        '<figure class="chart" id="{}"><figcaption class="chart-title">{}</figcaption>{}{}{}</figure>'
    ).format(key, title, legend, picture, folded)


def nothing(title: str) -> Markup:
    """Where there is nothing to draw."""
    return Markup('<p class="chart-empty">Nothing to draw yet: no numbers of “{}” in this span.</p>').format(title)


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """The numbers of a chart, to be read; it scrolls inside its own box."""
    head = Markup().join(Markup('<th scope="col">{}</th>').format(text) for text in heads)
    body = Markup().join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            row[0], Markup().join(Markup("<td>{}</td>").format(cell) for cell in row[1:])
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="{}"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(f"Numbers of {title}", head, body)


def key_of(title: str) -> str:
    """An id made of a title: the same for the same one."""
    return f"chart-{zlib.crc32(title.encode('utf-8', 'replace')):08x}"
