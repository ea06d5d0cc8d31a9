"""
Copying objects from store to store: each verified by its hash, with few bytes in flight.

Right before an object is put, the ledger is asked whether it still counts, by a look
that is at most :data:`.lease.LEASE_S` old. So nobody, however slow, puts an object
long after it was condemned, and a sweep that comes later finds all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

from attrs import define, field, frozen

from ...errors import AlreadyExistsError, DamagedData, NotFoundError
from ...terms import Problem
from ..format.names import content_hash
from ..store.seam import StoreSeam
from .session import Session

__all__ = ["Copied", "Wanted", "copy_all", "copy_one"]

IN_FLIGHT_BYTES: Final = 128 << 20
MAX_IN_FLIGHT: Final = 8


@frozen
class Wanted:
    """An object to copy."""

    name: str
    digest: bytes
    """Hash of its bytes."""
    max_bytes: int
    replace: bool = False
    """What stands there has another length, so it is not the object."""
    needed: bool = False
    """Without it nobody can open or fold; of the others every one counts for itself."""
    short: bytes = b""
    """Its short name, by which it can be condemned."""


@define
class Copied:
    """Counts of a copy."""

    objects: int = 0
    bytes: int = 0
    problems: list[Problem] = field(factory=list)


def copy_one(session: Session, wanted: Wanted, target: StoreSeam) -> int:
    """
    Copy one object from the vault; give its length.

    Raises:
        NotFoundError: It is not in the vault, or was condemned meanwhile.
        DamagedData: What the vault's store gives is not it, twice.
        AlreadyExistsError: Something else of its name stands in the target.
        StoreError: One of the stores failed.
    """
    source = session.store
    data = source.get_whole(wanted.name, wanted.max_bytes)
    if content_hash(data) != wanted.digest:
        # A bit may have flipped on the way: damage shows twice.
        data = source.get_whole(wanted.name, wanted.max_bytes)
        if content_hash(data) != wanted.digest:
            raise DamagedData(f"{wanted.name} is damaged", object=wanted.name)
    if wanted.short in session.log.recent.condemned:
        raise NotFoundError(f"{wanted.name} is condemned", object=wanted.name)
    if wanted.replace:
        target.overwrite(wanted.name, data)
    else:
        target.put(wanted.name, data)
    return len(data)


def copy_all(
    session: Session, many: Iterable[Wanted], target: StoreSeam, *, largest: int, done: Copied
) -> list[Wanted]:
    """
    Copy objects, a few at a time.

    Args:
        largest: The usual length of a large one; bounds how many are in flight.
        done: Counts what is copied, and takes what is damaged as a problem.

    Returns:
        What is not in the vault, or was condemned meanwhile.

    Raises:
        DamagedData: One that is needed is damaged.
        AlreadyExistsError, StoreError: As :func:`copy_one`; nothing more is begun.

    Memory: 128 MiB of packs, and the largest index object.
    """
    distant = (seam for seam in (target, session.store) if seam.is_distant)
    executor = next((seam.threads for seam in distant), session.executor)
    window = max(1, min(MAX_IN_FLIGHT, IN_FLIGHT_BYTES // largest))
    pending: deque[tuple[Wanted, Future[int]]] = deque()
    missing: list[Wanted] = []

    try:
        for wanted in many:
            if len(pending) >= window:
                missing += _settle(*pending.popleft(), done)
            pending.append((wanted, executor.submit(copy_one, session, wanted, target)))
        while pending:
            missing += _settle(*pending.popleft(), done)
    finally:
        for _, future in pending:
            future.cancel()
        for _, future in pending:
            # What is under way ends before the caller goes on.
            if not future.cancelled():
                future.exception()
    return missing


def _settle(wanted: Wanted, future: Future[int], done: Copied) -> list[Wanted]:
    """Count what came of a copy; give the object if there is none to copy."""
    try:
        done.bytes += future.result()
        done.objects += 1
    except NotFoundError:
        return [wanted]
    except DamagedData as exc:
        if wanted.needed:
            raise
        done.problems.append(Problem(exc.kind, str(exc), object=wanted.name))
    except AlreadyExistsError:
        if wanted.needed:
            raise
        # Something of that name, and not it: what is named by its hash has no second form.
        text = f"{wanted.name} is another object in the replica"
        done.problems.append(Problem("damaged", text, object=wanted.name))
    return []
