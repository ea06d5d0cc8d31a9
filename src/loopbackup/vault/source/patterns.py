"""The one pattern language: gitignore's, on paths as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec

from ...errors import InputError
from .brackets import tame_brackets

__all__ = ["Patterns"]


class Patterns:
    """
    Select entries by gitignore patterns.

    An entry is selected if *include* is empty or matches it, and *exclude*
    does not. A pattern that matches a folder matches all that lies in it;
    in each list the last pattern that matches decides, and ``!`` reverses.
    A single text is a list of one; *what* is what errors call *include*.

    Raises:
        InputError: A pattern is invalid, blank or a comment.
    """

    def __init__(
        self,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        *,
        what: str = "include",
    ) -> None:
        self._include = _compile(include, what)
        self._exclude = _compile(exclude, "exclude")

    def __bool__(self) -> bool:
        return self._include is not None or self._exclude is not None

    def matches(self, path: bytes, *, is_dir: bool) -> bool:
        """Tell whether the entry at *path* is selected."""
        text = _text(path, is_dir=is_dir)
        if self._include is not None and not self._include.match_file(text):
            return False
        return self._exclude is None or not self._exclude.match_file(text)

    def prune(self, path: bytes) -> bool:
        """Tell whether nothing in the folder at *path* can be selected."""
        return self._exclude is not None and self._exclude.match_file(_text(path, is_dir=True))


def _text(path: bytes, *, is_dir: bool) -> str:
    # Regular expressions treat a newline in a name as the end of it. NUL is in
    # no name and no pattern, and "*" matches it.
    text = path.decode("utf-8", "surrogateescape").replace("\n", "\0")
    return text + "/" if is_dir else text


def _compile(patterns: object, what: str) -> GitIgnoreSpec | None:
    if isinstance(patterns, str):
        # Taken for a list it would be one pattern for each of its characters.
        patterns = [patterns]
    if isinstance(patterns, bytes) or not isinstance(patterns, Iterable):
        raise InputError(f"{what} is a list of patterns: {what}=[...]")
    lines = []
    for line in patterns:
        if not isinstance(line, str):
            raise InputError(f"a pattern in {what} is text, not {type(line).__name__}")
        try:
            lines.append(tame_brackets(line))
        except ValueError as exc:
            raise InputError(f"a pattern in {what} is invalid: {exc}", pattern=line) from None
        _check(lines[-1], what)
    return GitIgnoreSpec.from_lines(lines) if lines else None


def _check(line: str, what: str) -> None:
    try:
        compiled = GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error) as exc:
        raise InputError(f"a pattern in {what} is invalid: {line!r}", pattern=line) from exc
    # A comment, a blank line and an unclosed bracket match nothing, silently.
    if "\n" in line or "\0" in line or all(item.include is None for item in compiled.patterns):
        raise InputError(f"a pattern in {what} matches nothing: {line!r}", pattern=line)
