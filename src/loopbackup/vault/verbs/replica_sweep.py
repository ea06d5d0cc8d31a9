"""
Sweeping a replica: delete what was condemned long enough ago, and whatever should not be there.

An object goes by its name, listed or not, until the ledger says that it is gone: of what is
not listed any more the store may keep versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import define, field

from ...errors import StoreError
from ...logs import get_logger
from ..ledger.replicas import Replica
from ..ledger.state import State, object_name
from ..store.seam import StoreSeam
from .replica_content import condemned_content, content_in, live_content, sweepable
from .session import Session

__all__ = ["SweptThere", "sweep_replica"]

MAX_KEPT: Final = 512
"""So many objects it leaves behind at most: the rest it does not touch."""


@define
class SweptThere:
    """What a sweep of a replica has done."""

    objects: int = 0
    freed_bytes: int = 0
    kept: set[bytes] = field(factory=set)
    """What the store refuses to delete, or keeps versions of."""
    gone: set[bytes] = field(factory=set)
    is_whole: bool = True
    """Nothing was left for another run."""


def sweep_replica(
    session: Session,
    state: State,
    before: Replica,
    target: StoreSeam,
    there: Mapping[bytes, int],
) -> SweptThere:
    """
    Sweep once.

    Args:
        state: What the replica shows; all of it is there.
        before: The replica as an earlier run has left it.
        there: Content that was listed before the ledger was last folded.

    Cost: three listings where anything is due, and a delete an object.
    """
    swept = SweptThere()
    limit = sweepable(state, before.size)
    due = {name: index for name, index in condemned_content(state) if index < limit}
    strays = _strays(session, state, there)
    unsaid = {name for name, index in due.items() if before.may_hold(index, name)}
    if not due and not strays and not before.kept:
        return swept
    sizes = content_in(target)
    for short in sorted((due.keys() & sizes.keys()) | unsaid | before.kept | strays):
        if len(swept.kept) >= MAX_KEPT:
            swept.is_whole = False
            break
        name = object_name(short)
        try:
            remains = target.delete(name)
        except StoreError as exc:
            get_logger().warning("not deleted yet", object=name, kind=exc.kind)
            swept.kept.add(short)
            continue
        (swept.kept if remains.versions else swept.gone).add(short)
        swept.objects += short in sizes
        swept.freed_bytes += sizes.get(short, 0)
    return swept


def _strays(session: Session, state: State, there: Mapping[bytes, int]) -> set[bytes]:
    """
    Give what neither counts nor is known to be condemned.

    A summary leaves out what is gone from everywhere, and a slow copy may still have
    brought some of it. Whoever puts what counts has folded the record that says so, and
    the ledger was folded after the listing.
    """
    found = there.keys() - state.condemned.keys() - live_content(session, state)
    if found:
        now = session.log.state
        found -= now.condemned.keys() | live_content(session, now)
    return found
