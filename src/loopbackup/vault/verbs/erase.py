"""
Erasing subjects: their keys leave the keyring with a change of epoch, and a receipt says so.

One record is the fence and the change of keys at once: killed before it, the
erasure has not begun; after it, it holds, and whoever erases again or prunes
deletes what is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from attrs import frozen

from ...errors import DamagedData, ErasureIncomplete, InputError, NotFoundError
from ...receipts import FORMAT, Receipt, new_opening, subject_ref
from ...terms import Action, Actor, Facts, Subject, SubjectKey, check_reason, subject_key
from ..format import record as rec
from ..keys.suppress import Suppression
from ..ledger.fences import ids_of
from ..ledger.log import Draft
from ..ledger.state import SnapshotRecord
from ..ledger.tree import Tree, inclusion_proof, leaf_hash
from .epoch import EpochChanged, change_epoch
from .held import refuse_erasure
from .refold import refold
from .session import Session, to_datetime

__all__ = ["run_erase"]

MAX_SUBJECTS: Final = 100_000
_OLD_COPIES: Final = (
    "Old copies of the store open with every credential that opened the vault when they were made: "
    "whoever has both, from before the erasure, can read them. Change and destroy them to end that."
)
_OLD_KEYS: Final = (
    "A process that had the vault open may hold keys until it next folds the ledger; nothing that "
    "it writes with them is accepted."
)
_LIMITS: Final = (
    _OLD_COPIES,
    "What was restored or exported before the erasure is outside the vault.",
    _OLD_KEYS,
    "That an opaque id once stored something, when, and about how much, stays in the ledger.",
    "Whoever has a credential of this vault can test whether a guessed name was erased.",
)
_PENDING: Final = (
    "The encrypted bytes lie in packs with those of others until a prune has moved the others out; "
    "the packs are deleted after the grace. Nobody has keys to them."
)


def run_erase(session: Session, actor: Actor, subjects: Sequence[Subject], reason: str) -> Receipt:
    """
    Erase subjects from every snapshot, at once.

    A tenant's own subject takes its children along. Subjects that were erased
    before add nothing; when all were, the receipt of then is given again.

    Raises:
        NotFoundError: The vault knows nothing of one of them; nothing was changed.
        PolicyError: Refused, or a hold stands against it; nothing was changed.
        ErasureIncomplete: The erasure holds, and ``receipt`` says so, but the
            store keeps old key objects: ``remaining``.
    """
    check_reason(reason)
    keys = _subjects(subjects)
    for key in keys:
        session.ask(Action.ERASE, actor, Facts(actor=actor, subject=key, reason=reason))
    session.catch_up()
    suppression = _suppression(session, keys)
    known = session.keyring.find_many(keys)
    before = session.keyring.erasures(set(keys) - known.keys())
    unknown = [key for key in keys if key not in known and key not in before and len(key) == 2]
    domains = _domains(session, suppression)
    if unknown or (not domains and not before):
        raise NotFoundError(
            f"the vault knows nothing of {max(len(unknown), 1):,} of {len(keys):,} subjects; "
            "nothing was changed",
            kind="subject",
            subjects=tuple(unknown or keys),
        )
    if not domains:
        return _again(session, set(before.values()), keys)
    found = _Found.of(session, domains)
    details = {"erasure": suppression.erasure.hex(), "subjects": len(keys)}
    changed = change_epoch(
        session,
        actor,
        rekey=False,
        erase=suppression,
        judge=partial(refuse_erasure, session, keys),
        action=Action.ERASE,
        reason=reason,
        details=details,
    )
    session.reader.drop()
    session.index.drop(changed.dropped)
    _verify(session, keys, changed)
    openings = {key: new_opening() for key in keys}
    proof = _proof_of(session, changed)
    facts = _facts(session, suppression.erasure, openings, reason, found, proof, changed.left)
    receipt = Receipt.sign(facts, session.keyring.root.authority_key, openings)
    _store(session, actor, suppression.erasure, receipt)
    if changed.left:
        raise ErasureIncomplete(
            f"the erasure holds, but the store keeps {len(changed.left)} old key objects; "
            "prune deletes them as soon as the store allows it",
            receipt=receipt,
            remaining=tuple(changed.left),
        )
    return receipt


def _subjects(subjects: Sequence[Subject]) -> list[SubjectKey]:
    if isinstance(subjects, str) or not isinstance(subjects, Sequence):
        raise InputError('subjects are a list: erase_subjects([("acme", "user-42")], reason=...)')
    keys = list(dict.fromkeys(map(subject_key, subjects)))
    if not 1 <= len(keys) <= MAX_SUBJECTS:
        raise InputError(f"1 to {MAX_SUBJECTS:,} subjects are erased at a time, not {len(keys):,}")
    return keys


def _suppression(session: Session, keys: Iterable[SubjectKey]) -> Suppression:
    keyring = session.keyring
    return Suppression(
        frozenset(keys),
        os.urandom(16),
        keyring.root.secrets.suppression,
        session.header.vault_id,
        keyring.home_key,
    )


def _domains(session: Session, suppression: Suppression) -> frozenset[bytes]:
    """Give the ids of all domains that the erasure takes."""
    state, found = session.log.state, frozenset[bytes]()
    for number in suppression.numbers(state.shards):
        shard = session.keyring.current_shard(number)
        if shard is not None:
            found |= suppression.apply(shard, ())[1]
    return found


@frozen
class _Found:
    """What the vault held, counted before the keys went."""

    domains: frozenset[bytes]
    snapshots: int = 0
    packs: int = 0
    stored_bytes: int = 0

    @classmethod
    def of(cls, session: Session, domains: frozenset[bytes]) -> _Found:
        """Count, from the index and the ledger alone: no list of entries and no content."""
        state = session.log.state
        snapshots = sum(
            any(domain_id in domains for domain_id in _named(session, record))
            for record in state.snapshots.values()
        )
        packs: set[bytes] = set()
        stored = 0
        for domain_id in domains:
            domain = session.keyring.by_id(domain_id)
            session.index.mend(domain, state)
            for reader in session.index.segments(state):
                for blob, _ in reader.rows(domain):
                    if blob.pack not in state.condemned:
                        packs.add(blob.pack)
                        stored += blob.length
        return cls(domains, snapshots, len(packs), stored)


def _named(session: Session, record: SnapshotRecord) -> Iterable[bytes]:
    listed = record.domains_list
    return ids_of(session.log.fetch_list(listed) if listed else record.domains)


@frozen
class _Proof:
    """That a record stands in the ledger."""

    index: int
    at: datetime
    leaf: bytes
    path: tuple[bytes, ...]
    size: int
    root: bytes

    def show(self) -> dict[str, Any]:
        """Give it as the receipt has it."""
        record = {
            "kind": "epoch",
            "index": self.index,
            "leaf": self.leaf.hex(),
            "proof": [step.hex() for step in self.path],
        }
        return {"size": self.size, "root": self.root.hex(), "records": [record]}


def _proof_of(session: Session, changed: EpochChanged) -> _Proof:
    """Prove the record by what stood before it: the last leaf's path are the peaks."""
    record = rec.take_apart(session.log.record(changed.index)).open()
    tree = Tree(changed.index, changed.peaks)
    tree.append(record.leaf)
    path = tuple(reversed(changed.peaks))
    at = to_datetime(record.frame.at_us)
    return _Proof(changed.index, at, leaf_hash(record.leaf), path, tree.size, tree.head())


def _facts(
    session: Session,
    erasure: bytes,
    openings: dict[SubjectKey, bytes],
    reason: str | None,
    found: _Found,
    proof: _Proof,
    left: Sequence[tuple[str, datetime | None]],
) -> dict[str, Any]:
    ends = [until for _, until in left]
    until = None if not ends else max((end for end in ends if end), default=None)
    irrevocable = proof.at if not left else (until if all(ends) else None)
    return {
        "format": FORMAT,
        "vault": session.header.vault_id.hex(),
        "authority": session.header.authority.hex(),
        "erasure": erasure.hex(),
        "erased_at": _iso(proof.at),
        "stage": "keys_destroyed",
        # Slots are strong, so a thief of copies without a credential has nothing either way;
        # but a level counts only if the ones below it hold.
        "level": "E0" if left else "E1",
        "irrevocable_at": None if irrevocable is None else _iso(irrevocable),
        "reason": reason,
        "subjects": [{"ref": subject_ref(key, opening)} for key, opening in openings.items()],
        "domains": sorted(domain_id.hex() for domain_id in found.domains),
        "before": {
            "snapshots": found.snapshots,
            "packs": found.packs,
            "stored_bytes": found.stored_bytes,
        },
        "keys": {
            "epoch": session.epoch.hex(),
            "destinations": [
                {
                    "store": "primary",
                    "left": [
                        {"object": name, "until": None if end is None else _iso(end)}
                        for name, end in left
                    ],
                }
            ],
        },
        "physical": {"packs": found.packs, "note": _PENDING},
        "suppressed": True,
        "verification": {
            "method": "the new keyring was opened from the store; it holds none of the domains",
            "at": _iso(session.log.now()),
            "found": 0,
        },
        "ledger": proof.show(),
        "limits": list(_LIMITS),
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _verify(session: Session, keys: Iterable[SubjectKey], changed: EpochChanged) -> None:
    """Look for the subjects and their domains in the keyring that counts now."""
    if session.keyring.find_many(keys):
        raise DamagedData("the keyring still holds a subject that was erased", kind="erasure")
    for domain_id in changed.dropped:
        try:
            session.keyring.by_id(domain_id)
        except NotFoundError:
            continue
        raise DamagedData("the keyring still holds a domain that was erased", kind="erasure")


def _store(session: Session, actor: Actor, erasure: bytes, receipt: Receipt) -> None:
    ref = b"receipt" + session.keyring.generation_ref
    body = session.body("meta", ref, receipt.to_json())
    facts = rec.Receipted(erasure, receipt.stage)
    session.log.commit_draft(Draft("receipt", facts, [body, session.audit(actor, Action.ERASE)]))


def _again(session: Session, erasures: set[bytes], keys: Sequence[SubjectKey]) -> Receipt:
    """Give the receipt of an erasure that holds already; sign one if that was not reached."""
    state = session.log.state
    if len(erasures) > 1:
        raise InputError(
            "these subjects were erased by several erasures; ask for the receipt of one at a time",
            kind="erased",
        )
    (erasure,) = erasures
    index, stored = state.erasures[erasure]
    if stored >= 0:
        record = rec.take_apart(session.log.record(stored)).open()
        for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
            if ref.key == "meta" and data is not None:
                return Receipt.from_json(session.open_body(ref, data))
    openings = {key: new_opening() for key in keys}
    found = _Found(frozenset(d for d, at in state.fenced.items() if at == index))
    facts = _facts(session, erasure, openings, None, found, _proof_at(session, index), ())
    receipt = Receipt.sign(facts, session.keyring.root.authority_key, openings)
    _store(session, Actor("unnamed"), erasure, receipt)
    return receipt


def _proof_at(session: Session, index: int) -> _Proof:
    """Prove any record, by reading all of them."""
    hashes, record = [], None
    for folded in refold(session):
        hashes.append(folded.leaf)
        if folded.index == index:
            record = folded.record
    assert record is not None
    tree_of = session.log.state.tree
    path = tuple(inclusion_proof(hashes, index))
    at = to_datetime(record.frame.at_us)
    return _Proof(index, at, hashes[index], path, len(hashes), tree_of.head())
