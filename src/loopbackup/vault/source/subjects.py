"""Who an entry is about: from its path, from a function, or one for all."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias

from attrs import field, frozen

from ...errors import InputError
from ...terms import Subject, SubjectKey, show_subject, subject_key

__all__ = ["PathSubjects", "SubjectRule", "Subjects", "as_subjects", "subject_from_path"]

SubjectRule: TypeAlias = Subject | Callable[[str], Subject | None] | None
"""What a host may give as ``subject=``."""

Answer: TypeAlias = tuple[SubjectKey | None, str | None]
"""A subject, and the code for :attr:`Found.no_subject`."""

_PLACEHOLDER: Final = re.compile(r"\{(tenant|subject)\}")
_FORBIDDEN: Final = re.compile(r"[\[\]{}\\]")


class Subjects(Protocol):
    """Say whom each entry is about."""

    def resolve(self, path: bytes, above: SubjectKey | None = None, *, is_dir: bool) -> Answer:
        """
        Give the subject of the entry at *path*, and why there is none.

        Args:
            path: Relative to the root of the source.
            above: The subject of the folder that it lies in. What lies below
                somebody's folder is never about nobody.
            is_dir: Folders match with a trailing "/", and none is missing a
                subject: those above the first match are about nobody.

        Raises:
            InputError: The host's function gave something that is no subject.
        """
        ...


@frozen
class _Fixed:
    key: SubjectKey | None

    def resolve(self, path: bytes, above: SubjectKey | None = None, *, is_dir: bool) -> Answer:
        return self.key, None


@frozen
class PathSubjects:
    """
    Name the subject of an entry by its path; made by :func:`subject_from_path`.

    Immutable, picklable, and a plain function of a path to its callers.
    """

    pattern: str
    unmatched: Literal["raise", "none"] = "raise"
    _regex: re.Pattern[bytes] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.unmatched not in ("raise", "none"):
            raise InputError('unmatched is "raise" or "none"')
        object.__setattr__(self, "_regex", _compile(self.pattern))

    def __call__(self, path: str) -> Subject | None:
        """Give the subject of *path*; a folder ends with "/"."""
        raw = path.encode("utf-8", "surrogateescape")
        return show_subject(self.resolve(raw, is_dir=raw.endswith(b"/"))[0])

    def resolve(self, path: bytes, above: SubjectKey | None = None, *, is_dir: bool) -> Answer:
        """Give the subject of *path*, as :meth:`Subjects.resolve` says."""
        if above is not None:
            return above, None
        match = self._regex.match(path + b"/" if is_dir and not path.endswith(b"/") else path)
        if match is None:
            return None, None if is_dir or self.unmatched == "none" else "unmatched"
        parts = match.groupdict()
        try:
            person = parts["subject"].decode()
            tenant = parts["tenant"].decode() if "tenant" in parts else None
            return subject_key(person if tenant is None else (tenant, person)), None
        except (UnicodeDecodeError, InputError):
            # A strange file name must not be able to stop the whole backup.
            return None, "subject"


@frozen
class _Asked:
    ask: Callable[[str], Subject | None]
    unmatched: str = "raise"

    def resolve(self, path: bytes, above: SubjectKey | None = None, *, is_dir: bool) -> Answer:
        text = (path + b"/" if is_dir else path).decode("utf-8", "surrogateescape")
        answer = self.ask(text)
        if answer is None:
            missing = above is None and not is_dir and self.unmatched == "raise"
            return above, "unmatched" if missing else None
        try:
            return subject_key(answer), None
        except InputError:
            # A strange file name must not be able to stop the whole backup.
            if not _has_surrogates(text):
                raise
            return above, "subject" if above is None else None


def _has_surrogates(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)


def subject_from_path(
    pattern: str, *, unmatched: Literal["raise", "none"] = "raise"
) -> PathSubjects:
    """
    Name subjects by where their files lie.

    ``"users/{subject}/**"`` makes everything in ``users/42``, that folder
    included, data about ``"42"``; ``"{tenant}/{subject}/**"`` names
    ``("acme", "42")``. Patterns start at the root of the source. A
    placeholder stands for one component of the path or a part of one; ``*``
    and ``?`` stay within a component, ``**`` spans any number of them. Folders
    above the first match are about nobody and keep their names, so end the
    pattern with ``/**`` right after the folder that is named after a person.

    Args:
        pattern: A path with ``{subject}``, and ``{tenant}`` where there are any.
        unmatched: Files that match nothing are stored in either case;
            ``"raise"`` reports the backup as incomplete, ``"none"`` says that
            they are about nobody.

    Raises:
        InputError: The pattern is not of this form.

    >>> subject_from_path("users/{subject}/**")("users/42/cv.pdf")
    '42'
    """
    if not isinstance(pattern, str):
        raise InputError(f"a pattern is text, not {type(pattern).__name__}")
    return PathSubjects(pattern, unmatched)


def as_subjects(rule: SubjectRule) -> Subjects:
    """
    Turn what a host gave as ``subject=`` into something to resolve paths with.

    A function is asked about every entry, folders (with a trailing "/") before
    what lies in them. Below a folder that has a subject, None means that one;
    elsewhere None means that the file has no subject, which is reported unless
    the function has an attribute ``unmatched`` that is ``"none"``.

    Raises:
        InputError: *rule* is none of the allowed things.
    """
    if rule is None:
        return _Fixed(None)
    if isinstance(rule, (str, tuple)):
        return _Fixed(subject_key(rule))
    if isinstance(rule, PathSubjects):
        return rule
    if callable(rule):
        return _Asked(rule, getattr(rule, "unmatched", "raise"))
    raise InputError(
        f"subject is text, a tuple of texts or a function of a path, not {type(rule).__name__}"
    )


def _compile(pattern: str) -> re.Pattern[bytes]:
    parts = pattern.removeprefix("/").split("/")
    below_only = len(parts) > 1 and parts[-1] in ("", "**")
    if below_only:
        del parts[-1]
    if "" in parts:
        raise InputError("a pattern for subjects has an empty component")
    if parts.count("**") > 1:
        raise InputError('a pattern for subjects has one "**" besides the last at most')
    names = _PLACEHOLDER.findall(pattern)
    if sorted(names) not in (["subject"], ["subject", "tenant"]):
        raise InputError("a pattern for subjects has {subject} once and {tenant} at most once")
    body = "".join(map(_component, parts)).removesuffix("/")
    regex = body + ("/" if below_only else r"(?:/|\Z)")
    return re.compile(regex.encode("utf-8", "surrogateescape"), re.DOTALL)


def _component(part: str) -> str:
    """Translate one component and the slash after it."""
    if part == "**":
        # As few folders as possible: the first match on the way down counts.
        return "(?:[^/]+/)*?"
    texts = _PLACEHOLDER.split(part)
    if len(texts) > 3:
        raise InputError("a component of a pattern has one placeholder at most")
    return (
        "".join(
            f"(?P<{text}>[^/]+)" if index % 2 else _literal(text)
            for index, text in enumerate(texts)
        )
        + "/"
    )


def _literal(text: str) -> str:
    if _FORBIDDEN.search(text) or "**" in text:
        raise InputError(
            "a pattern for subjects is made of names, *, ?, **, {tenant} and {subject}"
        )
    return re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
