"""What the receipt of an erasure says, the proof of its record, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen

from ...errors import DamagedData
from ...receipts import FORMAT, Level, Receipt, new_opening, subject_ref
from ...terms import Action, Actor, SubjectKey
from ..format import record as rec
from ..ledger.fences import ids_of
from ..ledger.log import Draft
from ..ledger.state import SnapshotRecord
from ..ledger.tree import Tree, inclusion_proof, leaf_hash
from .epoch import EpochChanged
from .reach import Reached
from .refold import refold
from .session import Session, to_datetime

__all__ = ["Before", "Left", "proof_of", "read_receipt", "sign_receipt"]

Left = Sequence[tuple[str, datetime | None]]
"""Old key objects that the store keeps, each with the time until which, if it says so."""

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
    "Patterns of holds, and reasons that were given for actions, stay in the ledger.",
    "Who acted stands in the audit log, also where that is the one who was erased.",
)
_PASSPHRASES: Final = (
    "Copies of the store hold what a passphrase opens, so without a credential they are as strong "
    "as the weakest passphrase that the vault had."
)
_PENDING: Final = (
    "The encrypted bytes lie in packs with those of others until a prune has moved the others out; "
    "the packs are deleted after the grace. Nobody has keys to them."
)


@frozen
class Before:
    """What the vault held of those to erase, counted before the keys went."""

    snapshots: int
    packs: int
    stored_bytes: int

    @classmethod
    def of(cls, session: Session, domains: Mapping[bytes, SubjectKey]) -> Before:
        """
        Count, from the index and the ledger alone: no list of entries and no content.

        Cost: the lists of domains of all snapshots of more than 1,024 subjects.
        """
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
        return cls(snapshots, len(packs), stored)

    def show(self) -> dict[str, int]:
        """Give it as the receipt has it."""
        return {
            "snapshots": self.snapshots,
            "packs": self.packs,
            "stored_bytes": self.stored_bytes,
        }


def _named(session: Session, record: SnapshotRecord) -> Iterable[bytes]:
    listed = record.domains_list
    return ids_of(session.log.fetch_list(listed) if listed else record.domains)


def proof_of(session: Session, changed: EpochChanged) -> dict[str, Any]:
    """Prove the record by what stood before it: the last leaf's path are the peaks."""
    record = rec.take_apart(session.log.record(changed.index)).open()
    tree = Tree(changed.index, changed.peaks)
    tree.append(record.leaf)
    path = tuple(reversed(changed.peaks))
    return _proof(record, leaf_hash(record.leaf), path, tree)


def proof_at(session: Session, index: int) -> dict[str, Any]:
    """Prove any record, by reading all of them; DamagedData where that fails."""
    hashes, record = [], None
    for folded in refold(session):
        hashes.append(folded.leaf)
        record = folded.record if folded.index == index else record
    if record is None:
        raise DamagedData("the record of an erasure is void, or gone", kind="altered_ledger")
    tree = session.log.state.tree
    return _proof(record, hashes[index], inclusion_proof(hashes, index), tree)


def _proof(record: rec.Record, leaf: bytes, path: Sequence[bytes], tree: Tree) -> dict[str, Any]:
    shown = {
        "kind": "epoch",
        "index": record.frame.index,
        "at": _iso(to_datetime(record.frame.at_us)),
        "leaf": leaf.hex(),
        "proof": [step.hex() for step in path],
    }
    return {"size": tree.size, "root": tree.head().hex(), "records": [shown]}


def sign_receipt(
    session: Session,
    actor: Actor,
    keys: Sequence[SubjectKey],
    known: Mapping[str, Any],
    left: Left,
    replicas: Sequence[Reached] = (),
) -> Receipt:
    """
    Sign what an erasure did to *keys*, and keep it in the ledger.

    Args:
        known: The facts ``erasure``, ``reason``, ``domains``, ``before`` and ``ledger``.
        left: Old key objects that the store keeps.
        replicas: What it has come to at each.
    """
    ends = [*(until for _, until in left), *(one.until for r in replicas for one in r.left)]
    openings = {key: new_opening() for key in keys}
    now = session.log.now()
    level: Level = "E0" if ends else "E1"
    kinds = {kind for _, kind, _ in session.log.state.slots}
    facts = {
        **known,
        "format": FORMAT,
        "vault": session.header.vault_id.hex(),
        "authority": session.header.authority.hex(),
        "erased_at": known["ledger"]["records"][0]["at"],
        "signed_at": _iso(now),
        "stage": "keys_destroyed",
        # A level counts only if the ones below it hold.
        "level": level,
        "irrevocable_at": _irrevocable(now, ends),
        "subjects": [{"ref": subject_ref(key, opening)} for key, opening in openings.items()],
        "keys": {
            "epoch": session.epoch.hex(),
            "destinations": [_destination(left), *map(_at_replica, replicas)],
        },
        "physical": {
            "note": _PENDING,
            "destinations": [
                _removal(session, now),
                *({**_removal(session, now), **r.named()} for r in replicas if not r.is_lost),
            ],
        },
        "suppressed": True,
        "verification": {
            "method": "the keyring that counts was asked for the subjects and for their domains",
            "at": _iso(now),
            "found": 0,
        },
        "limits": [
            *_LIMITS,
            *([_PASSPHRASES] if "passphrase" in kinds else []),
            *(limit for replica in replicas if (limit := replica.limit)),
        ],
    }
    receipt = Receipt.sign(facts, session.keyring.root.authority_key, openings)
    _keep(session, actor, bytes.fromhex(known["erasure"]), receipt)
    return receipt


def _removal(session: Session, now: datetime) -> dict[str, Any]:
    """Say when a prune that runs right now would have the bytes deleted by the next one."""
    grace_s = session.header.grace_s
    earliest = _iso(now + timedelta(seconds=grace_s))
    return {"store": "primary", "grace_s": grace_s, "earliest": earliest}


def _irrevocable(now: datetime, ends: Sequence[datetime | None]) -> str | None:
    """Say when the last old key is gone: now, when the store says, or nobody knows when."""
    if not all(ends):
        return None
    return _iso(max([now, *(end for end in ends if end is not None)]))


def _destination(left: Left) -> dict[str, Any]:
    shown = [{"object": name, "until": None if end is None else _iso(end)} for name, end in left]
    stage = "pending" if left else "keys_destroyed"
    return {"store": "primary", "stage": stage, "left": shown}


def _at_replica(replica: Reached) -> dict[str, Any]:
    left = [(one.what, one.until) for one in replica.left]
    return {**_destination(left), **replica.named(), "stage": replica.stage}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _keep(session: Session, actor: Actor, erasure: bytes, receipt: Receipt) -> None:
    ref = b"receipt" + session.keyring.generation_ref
    body = session.body("meta", ref, receipt.to_json())
    facts = rec.Receipted(erasure, receipt.stage)
    session.log.commit_draft(Draft("receipt", facts, [body, session.audit(actor, Action.ERASE)]))


def read_receipt(session: Session, index: int) -> Receipt | None:
    """Read the receipt that a record holds; None if its body is lost."""
    record = rec.take_apart(session.log.record(index)).open()
    for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
        if ref.key == "meta" and data is not None:
            return Receipt.from_json(session.open_body(ref, data))
    return None
