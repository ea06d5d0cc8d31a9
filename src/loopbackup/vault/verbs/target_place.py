"""Where a restore would put data: asked of the provider, before anything there is looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from ...errors import InputError
from ...terms import AllowAll, Location, Place
from ..source.urls import local_path, own_options, place_text
from ..store.registry import open_store, redact_url
from ..store.seam import StoreSeam
from .locate import declared_text
from .session import Session

__all__ = ["target_places"]

_ASKED: Final = ("s3://", "s3a://")


def target_places(
    session: Session,
    to: str | os.PathLike[str],
    options: Mapping[str, Any] | None,
    location: str | Location | None,
) -> tuple[Place, ...]:
    """
    Give the place of a target elsewhere; nothing for a folder of this machine.

    Of a URL that a store of the library knows, the provider is asked; of another one what is
    declared counts.

    Raises:
        InputError: *location* is neither text nor a location; or of a bucket in S3, that its
            provider cannot be asked with this URL and these options.
        StoreError: The provider does not answer.
    """
    declared = declared_text(location)
    text = place_text(to)
    if type(session.gate) is AllowAll or local_path(text) is not None:
        return ()
    # Of an archive in a bucket the bucket counts.
    *links, url = text.split("::")
    shown = redact_url(url)
    try:
        store = open_store(url, own_options(links, options))
    except InputError:
        if url.lower().startswith(_ASKED):
            # What is declared is no answer of a provider who can be asked.
            raise
        return (Place("target", declared, url=shown),)
    with closing(StoreSeam(store)) as seam:
        found = seam.describe().location
        if found is None or found.region is None:
            return (Place("target", declared, url=shown),)
        return (Place("target", declared, found, session.log.now(), shown),)
