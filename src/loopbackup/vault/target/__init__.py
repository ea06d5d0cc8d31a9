"""Where a restore writes to: a folder of this machine, or any fsspec URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ...errors import InputError
from ..source.urls import local_path
from .base import Buffer, NotRestored, Overwrite, Target
from .local import LocalTarget

__all__ = ["Buffer", "LocalTarget", "NotRestored", "Overwrite", "Target", "open_target"]


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
    text = os.fsdecode(to)
    path = local_path(text)
    if path is None:
        from .remote import RemoteTarget

        return RemoteTarget(text, dict(options or {}), overwrite=overwrite)
    if options:
        raise InputError("target_options are for URLs; a local path takes none")
    return LocalTarget(path, overwrite=overwrite)
