"""
Policies as TOML files: read with line numbers in errors, written without loss.

A file has ``version = 1``, ``strict`` if it is not true, one ``[[rule]]`` for each rule with its
``kind`` and its arguments, and one ``[[region]]`` for each region that the tables do not know.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ..errors import InputError, PolicyError
from .policy import Policy
from .registry import kind_of, make_rule
from .rules.base import Rule
from .tables import Region, shipped

__all__ = ["dumps", "load", "loads"]

VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
_TOP: Final = ("version", "strict", "region", "rule")


def load(path: str | PathLike[str]) -> Policy:
    """
    Read a policy from a TOML file.

    Raises:
        InputError: It cannot be read, or is no policy; the message says in which line.
        PolicyError: Kind "not_installed": a rule is of a plug-in that is not here.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise InputError(f"the policy cannot be read ({reason})", path=os.fspath(path)) from exc
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InputError(f"{Path(path).name}, line {line}: this is no UTF-8") from exc
    return _parse(text, Path(path).name)


def loads(text: str) -> Policy:
    """
    Read a policy from TOML text.

    Raises:
        InputError: It is no policy; the message says in which line.
        PolicyError: Kind "not_installed": a rule is of a plug-in that is not here.
    """
    if not isinstance(text, str):
        raise InputError(f"a policy is read from text, not from {type(text).__name__}")
    return _parse(text, "policy")


def dumps(policy: Policy) -> str:
    """
    Write a policy as TOML; :func:`loads` makes an equal one of it.

    Raises:
        InputError: One of its rules cannot be written: it has no ``options()``, they do not fit
            into TOML, or no entry point names its class. Or its tables are others than those of
            the library with rows of a host.
    """
    import tomli_w

    if shipped().with_regions(*policy.tables.own).digest != policy.tables.digest:
        raise InputError("only rows of regions that a host has added can be written, no tables")
    tables = []
    for rule in policy.rules:
        options = getattr(rule, "options", None)
        if options is None:
            raise InputError(f"the rule {rule.id} cannot be kept: it has no options()")
        tables.append({"kind": kind_of(rule), "version": rule.version, **options()})
    document: dict[str, Any] = {"version": VERSION}
    if not policy.strict:
        document["strict"] = False
    if policy.tables.own:
        document["region"] = policy.tables.own_rows()
    try:
        return tomli_w.dumps({**document, "rule": tables})
    except (TypeError, ValueError) as exc:
        raise InputError(f"a rule cannot be written as TOML: {exc}") from exc


def _parse(text: str, name: str) -> Policy:
    if len(text) > MAX_BYTES:
        raise InputError(f"{name}: a policy has at most {MAX_BYTES:,} characters")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise InputError(f"{name}: {_with_line(str(exc))}") from exc
    except RecursionError:
        raise InputError(f"{name}: it is nested too deeply") from None
    source = _Source(text, name)
    for key in found:
        if key not in _TOP:
            raise source.error(f"{key!r} is nothing that a policy has", (key,))
    if found.get("version") != VERSION:
        raise source.error(f"a policy begins with version = {VERSION}", ("version",))
    strict = found.get("strict", True)
    if not isinstance(strict, bool):
        raise source.error("strict is true or false", ("strict",))
    rules = [_rule(source, *found) for found in enumerate(_tables(source, found, "rule"))]
    regions = [_region(source, *found) for found in enumerate(_tables(source, found, "region"))]
    tables = shipped().with_regions(*regions) if regions else None
    try:
        return Policy(*rules, strict=strict, tables=tables).read_from(text)
    except InputError as exc:
        raise InputError(f"{name}: {exc}") from exc


def _tables(source: _Source, found: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    tables = found.get(what, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise source.error(f"each {what} is written as [[{what}]]", (what,))
    return tables


def _region(source: _Source, number: int, table: Mapping[str, Any]) -> Region:
    try:
        return Region(**table)
    except (TypeError, InputError) as exc:
        told = str(exc) if isinstance(exc, InputError) else "it has a provider, a region, countries"
        raise source.error(f"no region: {told}", ("region", number)) from None


def _with_line(message: str) -> str:
    """Give the parser's message with the line first."""
    what, found, where = message.rpartition(" (at line ")
    if not found:
        return message
    return f"line {where.partition(',')[0]}: {what}"


def _rule(source: _Source, number: int, table: Mapping[str, Any]) -> Rule:
    options = dict(table)
    kind, version = options.pop("kind", None), options.pop("version", None)
    where = ("rule", number)
    if not isinstance(kind, str):
        raise source.error('a rule has a kind, such as kind = "residency"', where)
    if version is not None and not isinstance(version, str):
        raise source.error("the version of a rule is text", (*where, "version"))
    try:
        return make_rule(kind, options, version=version)
    except PolicyError as exc:
        raise PolicyError(
            f"{source.name}, line {source.line(where)}: {exc}", kind=exc.kind
        ) from exc
    except InputError as exc:
        # Of the arguments that the message names the longest is meant: keep_at_least, not keep.
        told = str(exc)
        meant = max((key for key in options if key in told), key=len, default=None)
        raise source.error(told, where if meant is None else (*where, meant)) from exc


class _Source:
    """A text, and where in it things stand; only looked at when something is wrong."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._lines = text.splitlines(keepends=True)

    def error(self, message: str, path: tuple[str | int, ...]) -> InputError:
        """Give an error that says in which line it is."""
        return InputError(f"{self.name}, line {self.line(path)}: {message}")

    def line(self, path: tuple[str | int, ...]) -> int:
        """
        Give the line in which the value at *path* begins; 1 where there is none.

        It follows the last beginning of the text without the value that is TOML as it is.
        """
        begin = 0
        for end in range(1, len(self._lines) + 1):
            try:
                found: Any = tomllib.loads("".join(self._lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            if _has(found, path):
                return self._first_said(begin)
            begin = end
        return 1

    def _first_said(self, begin: int) -> int:
        while begin < len(self._lines) - 1 and self._lines[begin].lstrip()[:1] in ("", "#"):
            begin += 1
        return begin + 1


def _has(found: Any, path: tuple[str | int, ...]) -> bool:
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True
