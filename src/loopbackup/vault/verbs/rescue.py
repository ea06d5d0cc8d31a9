"""Rescuing: live chunks that stand in condemned packs only, while those stand."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable

from ...errors import DamagedData, NotFoundError
from ...logs import get_logger
from ...terms import Problem
from ..content.segment import Place, SegmentReader
from ..content.upload import Upload
from ..format.pack import CONTENT_KINDS
from ..keys.domains import Domain
from ..ledger.state import object_name
from .session import Session

__all__ = ["rescue"]


def rescue(
    session: Session, upload: Upload, chunks: Iterable[tuple[Domain, bytes]], packs: set[bytes]
) -> tuple[dict[Domain, set[bytes]], list[Problem]]:
    """
    Put chunks again that condemned packs hold.

    Args:
        packs: Short names of the condemned packs that still stand; the
            directory of each is read at most once.

    Returns:
        The chunks that none of them holds, and what to report.
    """
    wanted: dict[Domain, set[bytes]] = defaultdict(set)
    for domain, chunk_id in chunks:
        wanted[domain].add(chunk_id)
    problems = []
    for short in sorted(packs):
        found = 0
        # A pack that is swept or damaged meanwhile holds nothing.
        with contextlib.suppress(DamagedData, NotFoundError):
            found = _look_into(session, upload, session.index.pack(short), wanted)
        if found:
            get_logger().error("live chunks were condemned and are brought back", count=found)
            text = f"{found:,} live chunks stood in a condemned pack only"
            problems.append(Problem("rescued", text, object=object_name(short)))
        if not any(wanted.values()):
            break
    return {domain: ids for domain, ids in wanted.items() if ids}, problems


def _look_into(
    session: Session, upload: Upload, pack: SegmentReader, wanted: dict[Domain, set[bytes]]
) -> int:
    """Put what a pack holds of the wanted chunks again, and want it no more; count it."""
    found = 0
    for domain, ids in wanted.items():
        if not ids:
            continue
        with contextlib.suppress(DamagedData, NotFoundError):
            back = _bring_back(session, upload, pack, domain, ids)
            ids.difference_update(back)
            found += len(back)
    return found


def _bring_back(
    session: Session, upload: Upload, pack: SegmentReader, domain: Domain, wanted: set[bytes]
) -> set[bytes]:
    """Put what a pack holds of the wanted chunks of a domain again; give their ids."""
    found = set()
    places = pack.places(domain)
    for chunk_id in sorted(wanted & places.keys()):
        kind = _kind_of(places[chunk_id], chunk_id)
        with contextlib.suppress(DamagedData):
            data = session.reader.read_place(domain, chunk_id, places[chunk_id], kind)
            upload.put(domain, chunk_id, bytes(data), kind)
            found.add(chunk_id)
    return found


def _kind_of(place: Place, chunk_id: bytes) -> str:
    return CONTENT_KINDS[place.blob.kind] if place.blob.id == chunk_id else "data"
