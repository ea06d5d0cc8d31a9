"""
The one place where HTML is made, for notebooks.

Everything that goes in is text and is escaped here; colours are the page's
own, so light and dark pages look alike.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from .text import plain

__all__ = ["MAX_ROWS", "Table", "card"]

MAX_ROWS: Final = 100
"""A table shows so many rows and counts the others."""

_CARD: Final = (
    "border:1px solid rgba(128,128,128,.45);border-radius:6px;padding:.6em .9em;"
    "margin:.3em 0;display:inline-block;max-width:100%;overflow-x:auto;color:inherit"
)
_TABLE: Final = "border-collapse:collapse;margin:.4em 0;color:inherit;background:none"
_CAPTION: Final = "caption-side:top;text-align:left;padding:.1em 0;color:inherit;opacity:.75"
_CELL: Final = (
    "padding:.15em .9em .15em 0;border:0;color:inherit;background:none;white-space:nowrap;"
    "vertical-align:top;text-align:"
)


@frozen
class Table:
    """
    A table of texts.

    Args:
        caption: Stands above it.
        columns: Headings; one that ends in ``>`` is set to the right.
        rows: One text for each column.
        total: How many rows there are, where *rows* has only the first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int | None = None

    def __str__(self) -> str:
        """Give the table as HTML."""
        sides = ["right" if column.endswith(">") else "left" for column in self.columns]
        heads = [column.removesuffix(">") for column in self.columns]
        parts = [f'<table style="{_TABLE}"><caption style="{_CAPTION}">{_safe(self.caption)}']
        parts.append("</caption>")
        if any(heads):
            parts.append(f"<thead>{_row(heads, sides, 'th')}</thead>")
        shown = self.rows[:MAX_ROWS]
        parts.append("<tbody>")
        parts += [_row(row, sides, "td") for row in shown]
        hidden = (len(self.rows) if self.total is None else self.total) - len(shown)
        if hidden > 0:
            parts.append(_row([f"... and {hidden:,} more"], ["left"], "td"))
        parts.append("</tbody></table>")
        return "".join(parts)


def card(title: str, facts: Iterable[tuple[str, str]] = (), *tables: Table) -> str:
    """Give a framed piece of HTML: a title, facts as pairs of texts, then tables."""
    rows = "".join(_row(pair, ("left", "left"), "td") for pair in facts)
    listed = f'<table style="{_TABLE}"><tbody>{rows}</tbody></table>' if rows else ""
    shown = "".join(map(str, tables))
    return f'<div style="{_CARD}"><strong>{_safe(title)}</strong>{listed}{shown}</div>'


def _row(cells: Sequence[str], sides: Sequence[str], tag: str) -> str:
    shown = (
        f'<{tag} style="{_CELL}{side}">{_safe(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"


def _safe(text: str) -> str:
    # bdi keeps what runs from right to left from turning its neighbours round.
    return f"<bdi>{html.escape(plain(text), quote=True)}</bdi>"
