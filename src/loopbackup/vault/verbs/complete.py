"""
Completing erasures: once nothing with their bytes stands on the store, a second receipt says so.

A prune calls an erasure *clear* when nothing that counts has its bytes. What was condemned up
to then goes with the sweeps; when all of it is gone, versions and refused deletes included,
the erasure is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import define, field, frozen

from ...errors import StoreError
from ...logs import get_logger
from ...receipts import Receipt
from ...terms import Action, Actor
from ..ledger.fences import Erasure
from ..ledger.state import State, object_name
from .clearing import holders, named_by
from .plan_prune import Listing
from .receipt import iso, keep_receipt, read_receipt
from .session import Session, to_datetime
from .sweep import Swept

__all__ = ["Waiting", "complete_erasures", "kept_receipts"]

PRIMARY: Final = "primary"
_METHOD: Final = (
    "all objects of the store were listed. Directories of the index, and of every pack and index "
    "object that does not count any more, were read; nothing condemned up to the last prune that "
    "removed anything of theirs was left, nor a version of it, nor an old key object"
)


@frozen
class Waiting:
    """An erasure whose bytes, or old keys, are not all gone from the store yet."""

    erasure: str
    """Name, as ``receipt.facts["erasure"]``."""
    objects: int
    """How many objects it waits for; 0 where a prune has not come to it yet."""
    until: datetime | None
    """When the last of them may go, as far as grace and store say; None where nobody can say."""
    reason: str

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

    Cost: nothing without an erasure that waits. Else four listings, and one small
    read for each object in the store that is condemned or unknown.
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
    look = _Look(session, state, listing, swept, max(e.cleared for e in open_.values()))
    receipts, waiting = [], []
    for name, erasure in sorted(open_.items(), key=lambda item: item[1].record):
        first = read_receipt(session, erasure.receipt)
        if first is None:
            continue
        reason, stands = look.why_not(state.erasures[name], first)
        if reason is not None:
            waiting.append(Waiting(name.hex(), len(stands.found), stands.until, reason))
            continue
        receipt = _complete(session, actor, name, first, listing)
        receipts += [] if receipt is None else [receipt]
    return receipts, waiting


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
        """Say why an erasure is not complete, and what stands in its way; None if nothing."""
        stands = _Stands()
        if any(place["store"] != PRIMARY for place in first.facts["physical"]["destinations"]):
            return "it is on other stores as well, which this one cannot speak for", stands
        if erasure.cleared < 0 or erasure.record in self._live or self._is_lost:
            return "the next prune has to move out what others have in the same packs", stands
        for short, end in self._objects(erasure):
            stands.add(object_name(short), end)
        for name, end in _old_keys(self._session, first):
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


def _old_keys(session: Session, first: Receipt) -> Iterator[tuple[str, datetime | None]]:
    """Delete once more what a receipt said that the store kept; yield what it still keeps."""
    for place in first.facts["keys"]["destinations"]:
        for left in place["left"]:
            try:
                remains = session.store.delete(left["object"])
            except StoreError as exc:
                get_logger().warning("an old key object cannot be deleted yet", kind=exc.kind)
                yield left["object"], None
            else:
                if remains.versions:
                    yield left["object"], remains.until


def _complete(
    session: Session, actor: Actor, name: bytes, first: Receipt, listing: Listing
) -> Receipt | None:
    """Sign, and keep it in the ledger; None where another prune was faster."""
    authority_key = session.keyring.root.authority_key
    receipt = Receipt.sign(_facts(session, name, first, listing), authority_key, {})
    is_kept = keep_receipt(session, actor, name, receipt, Action.PRUNE, again=False)
    return receipt if is_kept else None


def _facts(session: Session, name: bytes, first: Receipt, listing: Listing) -> Mapping[str, Any]:
    facts, now = first.facts, iso(session.log.now())
    ledger = facts["ledger"]
    return {
        **facts,
        "signed_at": now,
        "stage": "completed",
        "completes": hashlib.sha256(first.to_json()).hexdigest(),
        "level": "E1",
        "irrevocable_at": facts["irrevocable_at"] or now,
        "subjects": [s for s in facts["subjects"] if name.hex() in s["erasures"]],
        "earlier": [],
        "keys": {
            **facts["keys"],
            "destinations": [{**place, "left": []} for place in facts["keys"]["destinations"]],
        },
        "physical": {
            "note": "Nothing that holds encrypted bytes of these subjects is left.",
            "destinations": [
                {**place, "removed_by": now} for place in facts["physical"]["destinations"]
            ],
        },
        "verification": {
            "method": _METHOD,
            "at": now,
            "objects": len(listing.sizes),
            "found": 0,
        },
        "ledger": {**ledger, "records": ledger["records"][:1]},
    }


def kept_receipts(session: Session) -> list[Receipt]:
    """
    Give the newest receipt of each erasure, the newest erasure first.

    Cost: one request an erasure.
    """
    erasures = sorted(session.log.state.erasures.values(), reverse=True)
    indices = (e.completed if e.completed >= 0 else e.receipt for e in erasures)
    found = (read_receipt(session, index) for index in indices if index >= 0)
    return [receipt for receipt in found if receipt is not None]
