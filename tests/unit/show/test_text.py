"""Texts of other people are safe to print."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loopbackup.show import text

anything = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)


@given(anything)
def test_plain_text_prints_on_one_line_and_can_be_encoded(given_text: str) -> None:
    """Neither a terminal nor an encoder meets anything but printable characters."""
    shown = text.plain(given_text)

    assert shown.isprintable()
    shown.encode()


@given(st.text(alphabet="abcåäö 12", max_size=20))
def test_harmless_text_stays_as_it_is(given_text: str) -> None:
    """Only what needs it is escaped."""
    assert text.plain(given_text) == given_text


def test_marks_of_direction_are_shown() -> None:
    """A name that would show as another is seen for what it is."""
    assert text.plain("cv\u202efdp.exe") == "cv\\u202efdp.exe"
    assert text.plain("\U000e0041") == "\\U000e0041"


def test_a_name_cannot_begin_a_line_of_its_own() -> None:
    """Lines come from the library, not from names."""
    assert text.lines(["a\nb", "c"]) == "a\\x0ab\nc"


@given(st.integers(0, 10**20))
def test_a_size_has_few_digits_and_a_unit(size_bytes: int) -> None:
    """Whatever the size, it is short."""
    number, unit = text.size(size_bytes).split(" ")

    assert float(number.replace(",", "")) < 1000
    assert unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB")
