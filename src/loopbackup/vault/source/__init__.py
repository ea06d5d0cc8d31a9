"""What is backed up: local trees, URLs and items, and who they are about."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ...errors import InputError
from .base import Found, Reader, ScanProblem, Source
from .items import Item, ItemSource
from .patterns import Patterns
from .subjects import SubjectRule, subject_from_path
from .tree import TreeSource
from .urls import check_options, local_path, place_text

__all__ = [
    "Found",
    "Item",
    "Patterns",
    "Reader",
    "ScanProblem",
    "Source",
    "open_source",
    "subject_from_path",
]


def open_source(
    source: str | os.PathLike[str] | Iterable[Item],
    *,
    subject: SubjectRule = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    forbidden: Collection[tuple[int, int]] = (),
    secrets: Collection[tuple[int, int]] = (),
    options: Mapping[str, Any] | None = None,
) -> Source:
    """
    Open what a host gave to ``backup``: a path, an fsspec URL, or items.

    Args:
        source: ``file://`` URLs are paths, taken literally (``%20`` is no space).
        subject: Whom it is about, as for ``as_subjects``.
        include: Patterns; for paths and URLs only.
        exclude: Patterns; for paths and URLs only.
        forbidden: (device, inode) of what is not to be touched, such as the
            vault; for paths only.
        secrets: (device, inode) of what opens the vault and is never stored;
            for paths only.
        options: For the file system of a URL; for a path, what
            :class:`TreeOptions` says; for items, ``in_order=True`` says that
            they come in tree order.

    Raises:
        InputError: There is no such source, or an argument does not fit it.
    """
    check_options("source_options", options)
    options = dict(options or {})
    if isinstance(source, (str, bytes, os.PathLike)):
        text = place_text(source)
        path = local_path(text)
        if path is not None:
            return TreeSource(
                path,
                subject=subject,
                include=include,
                exclude=exclude,
                forbidden=forbidden,
                secrets=secrets,
                options=options,
            )
        from .remote import RemoteSource

        return RemoteSource(text, options, subject=subject, include=include, exclude=exclude)
    if isinstance(source, Item) or not isinstance(source, Iterable):
        raise InputError(
            f"a source is a path, a URL or an iterable of items, not {type(source).__name__}"
        )
    if include != () or exclude != ():
        from .patterns import Patterns

        if Patterns(include, exclude):
            raise InputError("include and exclude are for paths and URLs; leave items out yourself")
    in_order = bool(options.pop("in_order", False))
    if options:
        raise InputError("the only option for items is in_order")
    return ItemSource(source, subject=subject, in_order=in_order)
