"""Saying in the ledger how far a replica has come; what several runs say at once is joined."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import frozen

from ...errors import ConflictError
from ...terms import Action, Actor
from ..format import record as rec
from ..format.replicafacts import MAX_NAMED
from ..ledger.log import Draft, Fresh
from ..ledger.state import State, join_names
from .replica_keys import BuriedKeys
from .session import Session

__all__ = ["Progress", "note"]


@frozen
class Progress:
    """What a run found or did at a replica; counts as :class:`.rec.Replicated` has them."""

    size: int = 0
    peaks: Sequence[bytes] = ()
    swept: int = 0
    kept: Collection[bytes] = frozenset()
    gone: Collection[bytes] = frozenset()
    """What it has tried to delete, and nothing of it is left."""


def note(
    session: Session, actor: Actor, store: bytes, keys: BuriedKeys, done: Progress
) -> int | None:
    """
    Record how far a replica has come; None where it was given up meanwhile.

    What another run has left behind since is left out only if this one has deleted it:
    no listing shows what it left. What this one had no room for is not named: ``keys`` and
    ``swept`` stay below the records that condemned it.

    Raises:
        ConflictError: Many runs at once have left more behind than a record can name.
    """

    def draft(state: State) -> Draft | None:
        known = state.replicas.get(store)
        if known is None or known.lost:
            return None
        kept = {*done.kept, *(known.kept - set(done.gone))}
        left = sorted(keys.kept | (known.left - keys.gone))
        if len(left) > MAX_NAMED:
            raise ConflictError("several replications at once left old keys; run one at a time")
        facts = rec.Replicated(
            store,
            done.size,
            list(done.peaks),
            keys.upto,
            max(min(done.swept, keys.upto), known.swept),
            join_names(sorted(kept)),
            left,
        )
        return Draft("replicated", facts, [session.audit(actor, Action.REPLICATE)])

    return session.log.commit(Fresh(draft))
