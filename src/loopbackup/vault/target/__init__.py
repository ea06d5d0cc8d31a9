"""Where a restore writes to: a folder of this machine, or any fsspec URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, get_args

from ...errors import InputError
from ..source.urls import check_options, local_path, place_text
from .base import Answer, Buffer, NotRestored, Overwrite, Planner, Target
from .content import data_size, is_plain
from .local import LocalTarget

__all__ = [
    "Answer",
    "Buffer",
    "LocalTarget",
    "NotRestored",
    "Overwrite",
    "Planner",
    "Target",
    "data_size",
    "is_plain",
    "open_plan",
    "open_target",
]


def open_target(
    to: str | os.PathLike[str],
    *,
    overwrite: Overwrite = "never",
    options: Mapping[str, Any] | None = None,
) -> Target:
    """
    Open what a host gave to ``restore``: a path or an fsspec URL.

    Args:
        to: ``file://`` URLs are paths, taken literally (``%20`` is no space).
        overwrite: What happens to entries that stand there already.
        options: For the file system of a URL.

    Raises:
        InputError: It cannot be written to, or an argument does not fit it.
    """
    check_options("target_options", options)
    text = place_text(to)
    path = local_path(text)
    if path is None:
        from .remote import RemoteTarget

        return RemoteTarget(text, dict(options or {}), overwrite=overwrite)
    if options:
        raise InputError("target_options are for URLs; a local path takes none")
    return LocalTarget(path, overwrite=overwrite)


def open_plan(
    to: str | os.PathLike[str],
    *,
    overwrite: Overwrite = "never",
    options: Mapping[str, Any] | None = None,
) -> Planner:
    """
    Open a target for a dry run, which makes nothing there.

    An archive, or another file system inside a file, counts as empty: to open
    it for writing would begin it anew.

    Raises:
        InputError: As :func:`open_target`.
    """
    from .plan import EmptyTarget

    check_options("target_options", options)
    text = place_text(to)
    path = local_path(text)
    if overwrite in get_args(Overwrite):
        if path is None and "::" in text:
            return EmptyTarget(local=False)
        if path is not None and not options and not os.path.lexists(path):
            return EmptyTarget(local=True)
    return open_target(to, overwrite=overwrite, options=options)
