"""HTML holds names as text, whatever they hold."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from loopbackup.show.html import MAX_ROWS, Table, card
from loopbackup.show.text import plain

anything = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
ALLOWED = {"div", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi"}


class Reader(HTMLParser):
    """Collects elements, attributes and texts, and holds that elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "bdi":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts[-1] += data


@given(anything, anything, anything)
def test_no_name_becomes_markup(title: str, name: str, cell: str) -> None:
    """Elements and attributes are ours; every text comes back as it went in."""
    html = card(title, [("name", name)], Table(name, ("Path", "Size>"), [(cell, "1 B")]))

    read = Reader(html)

    assert not read.open
    assert read.tags <= ALLOWED
    assert read.attributes == {"style"}
    assert read.texts == [
        plain(t) for t in (title, "name", name, name, "Path", "Size", cell, "1 B")
    ]


def test_a_script_in_a_name_is_text() -> None:
    """The classic."""
    html = card("<script>alert(1)</script>", [("a", '"><img src=x onerror=alert(1)>')])

    assert "<script" not in html
    assert "<img" not in html


def test_long_tables_are_cut_and_counted() -> None:
    """A notebook stays usable, and says what it does not show."""
    html = str(Table("all", ("N",), [(str(n),) for n in range(MAX_ROWS + 5)]))

    assert html.count("<tr>") == MAX_ROWS + 2
    assert "... and 5 more" in html
