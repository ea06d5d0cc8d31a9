"""
Completing erasures: once nothing with their bytes stands on any store, a second receipt says so.

A prune calls an erasure *clear* when nothing that counts has its bytes. What was condemned up
to then goes with the sweeps; when all of it is gone, versions and refused deletes included,
the erasure is complete. The vault's own store is looked at; of a replica the
ledger says what its last replication has found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import define, field, frozen

from ...receipts import Receipt
from ...terms import Action, Actor
from ..ledger.fences import Erasure
from ..ledger.replicas import Replica
from ..ledger.state import State, epoch_short, object_name
from .clearing import holders, named_by
from .erasures import delete_left
from .plan_prune import Listing
from .reach import OVERWRITTEN, REPLICA_LIMIT, Reached, at_replica
from .receipt import PRIMARY, iso, keep_receipt, key_places, read_receipt, replica_place
from .session import Session, to_datetime
from .sweep import Swept

__all__ = ["Waiting", "complete_erasures", "is_done_at_replicas", "kept_receipts"]

_METHOD: Final = (
    "all objects of the primary store were listed. Directories of the index, and of every pack and "
    "index object that does not count any more, were read; nothing condemned up to the last prune "
    "that removed anything of theirs was left, nor a version of it, nor an old key object"
)
_METHOD_THERE: Final = (
    ". Each replica was listed by a replication an hour or more after that prune. What was "
    "condemned up to it was deleted there by name, and the store reported no version of it then, "
    "as the ledger says; nobody has asked the replica since"
)
_OF_REPLICAS: Final = (REPLICA_LIMIT, OVERWRITTEN)
_GONE: Final = "Nothing that holds encrypted bytes of these subjects is left"
_GONE_BUT: Final = f"{_GONE}, but for what lies at replicas that were declared lost."


@frozen
class Waiting:
    """A store from which the bytes, or old keys, of an erasure are not all gone yet."""

    erasure: str
    """Name, as ``receipt.facts["erasure"]``."""
    objects: int
    """How many objects it waits for; 0 where a prune, or a replication, has not come to it yet."""
    until: datetime | None
    """When the last of them may go, as far as grace and store say; None where nobody can say."""
    reason: str
    where: str = PRIMARY
    """``primary``, or the URL of the replica, without credentials."""

    def __str__(self) -> str:
        until = "" if self.until is None else f", until {iso(self.until)}"
        return f"erasure {self.erasure[:8]} waits: {self.reason}{until}"


@define
class _Stands:
    """What keeps an erasure from being complete."""

    found: dict[str, datetime | None] = field(factory=dict)

    def add(self, name: str, until: datetime | None) -> None:
        self.found[name] = until

    @property
    def until(self) -> datetime | None:
        ends = [end for end in self.found.values() if end is not None]
        return max(ends) if len(ends) == len(self.found) and ends else None


def complete_erasures(
    session: Session, actor: Actor, swept: Swept
) -> tuple[list[Receipt], list[Waiting]]:
    """
    Sign what is complete, and say what the others wait for.

    Nobody is asked about erasures of which no receipt was kept: erasing the same
    subjects again gives one, and the next prune completes it.

    Cost: nothing without an erasure that waits; no replica is asked. Else four listings,
    and one small read for each object in the store that is condemned or unknown.
    """
    signer = session.log.signer
    if signer is None or "admin" not in signer.roles:
        return [], []
    state = session.log.state
    open_ = {n: e for n, e in state.erasures.items() if e.completed < 0 and e.receipt >= 0}
    if not open_:
        return [], []
    listing = Listing.take(session)
    session.log.refresh()
    state = session.log.state
    if not _shows_all(listing, state):
        why = "the store does not list what certainly stands, so nobody can say what else does"
        return [], [Waiting(name.hex(), 0, None, why) for name in sorted(open_)]
    look = _Look(session, state, listing, swept, max(e.cleared for e in open_.values()))
    receipts, waiting = [], []
    for name in sorted(open_, key=lambda name: open_[name].record):
        erasure = state.erasures[name]
        first = read_receipt(session, erasure.receipt)
        if first is None:
            continue
        reason, stands = look.why_not(erasure, first)
        found = [_waits_there(name, *where) for where in _behind(session, state, erasure)]
        if reason is not None:
            found = [Waiting(name.hex(), len(stands.found), stands.until, reason), *found]
        waiting += found
        if not found:
            receipt = _complete(session, actor, name, erasure, first, listing)
            receipts += [] if receipt is None else [receipt]
    return receipts, waiting


def _shows_all(listing: Listing, state: State) -> bool:
    """Tell whether a listing shows the keys that count, without which nobody had come here."""
    keys = {epoch_short(state.epoch), *(b"s" + digest for digest in state.shards.values())}
    return keys <= listing.sizes.keys()


class _Look:
    """One look at the store, and what it shows of each erasure."""

    def __init__(
        self, session: Session, state: State, listing: Listing, swept: Swept, last: int
    ) -> None:
        self._session, self._state, self._listing = session, state, listing
        self._upto, self._kept = state.swept.get(session.header.vault_id, (-1, frozenset()))
        self._until = swept.until
        readers = session.index.segments(state)
        self._is_lost = any(reader.lost for reader in readers)
        self._live = named_by(readers, state)
        counted = {pack.name for reader in readers for pack in reader.packs}
        counted |= {reader.short for reader in readers}
        # What was condemned later than anything was cleared has nothing of anybody's.
        others = (
            short
            for short in listing.sizes
            if short[:1] in b"pi"
            and (short not in counted or short in state.condemned)
            and self._condemned(short)[0] <= last
        )
        self._holders = holders(session, others, state)

    def _condemned(self, short: bytes) -> tuple[int, int]:
        """Give where and when an object was condemned; before all where it was not."""
        return self._state.condemned.get(short, (-1, -1))

    def _ends(self, short: bytes) -> datetime | None:
        """Say until when an object stands: as the store said, or to the end of its grace."""
        if short in self._until:
            return self._until[short]
        at_us = self._condemned(short)[1]
        if at_us < 0:
            return None
        return to_datetime(at_us) + timedelta(seconds=self._session.header.grace_s)

    def why_not(self, erasure: Erasure, first: Receipt) -> tuple[str | None, _Stands]:
        """Say why an erasure is not complete here, and what stands in its way; or None."""
        stands = _Stands()
        if erasure.cleared < 0 or erasure.record in self._live or self._is_lost:
            return "the next prune has to move out what others have in the same packs", stands
        for short, end in self._objects(erasure):
            stands.add(object_name(short), end)
        for name, end in delete_left(self._session, first):
            stands.add(name, end)
        if stands.found:
            return f"{len(stands.found):,} objects stand", stands
        if self._upto < erasure.cleared:
            return "what was condemned has not been swept yet", stands
        return None, stands

    def _objects(self, erasure: Erasure) -> Iterator[tuple[bytes, datetime | None]]:
        for short, named in self._holders.items():
            if erasure.record in named:
                yield short, self._ends(short)
        for short in self._kept:
            # Of a version that the store keeps nobody can ask whose bytes it has.
            last = erasure.cleared if short[:1] in b"pi" else erasure.record
            if short[:1] != b"l" and self._condemned(short)[0] <= last:
                yield short, self._until.get(short)
        for short in self._listing.sizes:
            if short[:1] in b"sk" and 0 <= self._condemned(short)[0] <= erasure.record:
                yield short, None


def _behind(session: Session, state: State, erasure: Erasure) -> Iterator[tuple[Reached, int, str]]:
    """
    Give the replicas that may have old keys or bytes of an erasure, how many objects, and why.

    All that the ledger knows, whenever they came: to one that came later nobody can have
    copied what was condemned before.
    """
    for replica in _by_age(state):
        kept = sum(_is_of(state, short, erasure) for short in replica.kept)
        if replica.lost:
            continue
        if replica.has_keys_of(erasure.record):
            count, why = len(replica.left), "old keys may stand at"
        elif kept:
            count, why = kept, f"{kept:,} objects stand at"
        elif erasure.cleared < 0 or replica.swept <= erasure.cleared:
            count, why = 0, "what the prune has condemned is still to be deleted, and listed, at"
        else:
            continue
        yield at_replica(session, replica, erasure.record), count, why


def _by_age(state: State) -> list[Replica]:
    return sorted(state.replicas.values(), key=lambda replica: replica.index)


def _is_of(state: State, short: bytes, erasure: Erasure) -> bool:
    """Tell whether what stays at a replica may have bytes of an erasure."""
    # Of what summaries have left out nobody knows when it was condemned.
    index, _ = state.condemned.get(short, (-1, 0))
    return short[:1] != b"l" and index <= erasure.cleared


def _waits_there(name: bytes, replica: Reached, count: int, why: str) -> Waiting:
    reason = f"{why} the replica {replica.name}: replicate to it"
    return Waiting(name.hex(), count, None, reason, replica.url)


def is_done_at_replicas(session: Session) -> bool:
    """Tell whether an erasure is clear, and waits for no replica that the ledger knows."""
    state = session.log.state
    return any(
        erasure.cleared >= 0
        and erasure.receipt >= 0
        and erasure.completed < 0
        and next(_behind(session, state, erasure), None) is None
        for erasure in state.erasures.values()
    )


def _complete(
    session: Session, actor: Actor, name: bytes, erasure: Erasure, first: Receipt, listing: Listing
) -> Receipt | None:
    """Sign, and keep it in the ledger; None where another prune was faster."""
    authority_key = session.keyring.root.authority_key
    receipt = Receipt.sign(_facts(session, name, erasure, first, listing), authority_key, {})
    is_kept = keep_receipt(session, actor, name, receipt, Action.PRUNE, again=False)
    return receipt if is_kept else None


def _facts(
    session: Session, name: bytes, erasure: Erasure, first: Receipt, listing: Listing
) -> Mapping[str, Any]:
    facts, now = first.facts, iso(session.log.now())
    ledger = facts["ledger"]
    replicas = [at_replica(session, one, erasure.record) for one in _by_age(session.log.state)]
    lost = [replica for replica in replicas if replica.is_lost]
    return {
        **facts,
        "signed_at": now,
        "stage": "completed",
        "completes": hashlib.sha256(first.to_json()).hexdigest(),
        "level": "E1",
        "irrevocable_at": facts["irrevocable_at"] or now,
        "subjects": [s for s in facts["subjects"] if name.hex() in s["erasures"]],
        "earlier": [],
        "keys": {**facts["keys"], "destinations": key_places((), replicas)},
        "physical": {
            "note": _GONE_BUT if lost else f"{_GONE}.",
            "destinations": _removed(session, facts["physical"]["destinations"], replicas, now),
        },
        "verification": {
            "method": _METHOD + (_METHOD_THERE if len(replicas) > len(lost) else ""),
            "at": now,
            "objects": len(listing.sizes),
            "found": 0,
        },
        "ledger": {**ledger, "records": ledger["records"][:1]},
        "limits": [
            *(limit for limit in facts["limits"] if not limit.startswith(_OF_REPLICAS)),
            *([OVERWRITTEN] if len(replicas) > len(lost) else []),
            *(limit for replica in lost if (limit := replica.limit)),
        ],
    }


def _removed(
    session: Session, said: Sequence[Mapping[str, Any]], replicas: Sequence[Reached], now: str
) -> list[dict[str, Any]]:
    """Name the stores again, and say when the bytes were found gone; null for lost replicas."""
    known = session.log.state.replicas
    places = {place["store"]: place for place in said}
    found = [{**places[PRIMARY], "removed_by": now}]
    for replica in replicas:
        at = iso(to_datetime(known[bytes.fromhex(replica.id)].at_us))
        place = places.get(replica.id) or replica_place(session, replica, None)
        found.append({**place, **replica.named(), "removed_by": None if replica.is_lost else at})
    return found


def kept_receipts(session: Session) -> list[Receipt]:
    """
    Give the newest receipt of each erasure, the newest erasure first.

    Cost: one request an erasure.
    """
    erasures = sorted(session.log.state.erasures.values(), reverse=True)
    indices = (e.completed if e.completed >= 0 else e.receipt for e in erasures)
    found = (read_receipt(session, index) for index in indices if index >= 0)
    return [receipt for receipt in found if receipt is not None]
