"""
Bracket expressions of patterns, written so that no regular expression takes them for set algebra.

pathspec hands what stands between brackets to :mod:`re` as it is, which warns
of ``[[`` and of doubled ``-``, ``&``, ``~`` and ``|``: a later Python may give
them a meaning that gitignore does not.
"""

from __future__ import annotations

import re

__all__ = ["tame_brackets"]

_DOUBLED = re.compile(r"--|&&|~~|\|\|")
_CLASS = re.compile(r"\[[:.=]")
_LEADING = "[^!"
"""What means something else right behind the opening bracket."""


def tame_brackets(pattern: str) -> str:
    """
    Give a pattern that matches the same, and that :mod:`re` has one reading of.

    Raises:
        ValueError: A class such as ``[:alpha:]``, which pathspec does not know,
            or a set that cannot be written in another way.

    >>> tame_brackets("x[[ab]")
    'x[ab[]'
    """
    return "/".join(map(_tame_segment, pattern.split("/")))


def _tame_segment(segment: str) -> str:
    parts, at = [], 0
    while at < len(segment):
        if segment[at] == "\\":
            parts.append(segment[at : at + 2])
            at += 2
            continue
        end = _end_of_set(segment, at) if segment[at] == "[" else -1
        if end < 0:
            parts.append(segment[at])
            at += 1
            continue
        parts.append(_tame_set(segment[at + 1 : end]))
        at = end + 1
    return "".join(parts)


def _end_of_set(segment: str, start: int) -> int:
    """Find the bracket that closes the one at *start*, as pathspec does; -1 if none does."""
    first = start + 1
    if segment[first : first + 1] in ("!", "^"):
        first += 1
    return segment.find("]", first + 1)


def _tame_set(inner: str) -> str:
    if _CLASS.search(inner):
        raise ValueError("classes of characters such as [:alpha:] are not known here; list them")
    negated = inner[:1] in ("!", "^")
    body = inner[1:] if negated else inner
    if not (inner.startswith("[") or _DOUBLED.search(body, 1)):
        return f"[{inner}]"
    return _written("!" if negated else "", *_members(body))


def _members(body: str) -> tuple[set[str], dict[str, str]]:
    """Give the single characters of a set, and its ranges as first -> last."""
    singles: set[str] = set()
    ranges: dict[str, str] = {}
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            first, last = body[at], body[at + 2]
            if first > last:
                raise ValueError("a range of characters runs backwards")
            ranges[first] = max(last, ranges.get(first, last))
            at += 3
        else:
            singles.add(body[at])
            at += 1
    covered = {c for c in singles if any(a <= c <= b for a, b in ranges.items())}
    return singles - covered, ranges


def _written(negation: str, singles: set[str], ranges: dict[str, str]) -> str:
    """Write a set anew: ``]`` first, ``-`` last, and nothing in front that means something."""
    if singles == {"["} and not ranges and not negation:
        return "\\["
    if "-" in ranges or "-" in ranges.values():
        raise ValueError("a range of characters begins or ends with -; put - last instead")
    spans = [*sorted(singles - set("]-")), *(f"{a}-{b}" for a, b in sorted(ranges.items()))]
    spans.sort(key=lambda span: (span[0] in _LEADING, span))
    parts = ["]"] * ("]" in singles) + spans + ["-"] * ("-" in singles)
    written = "".join(parts)
    if written[0] in _LEADING or _DOUBLED.search(written, 1):
        raise ValueError("a set of characters has more than one reading; write it differently")
    return f"[{negation}{written}]"
