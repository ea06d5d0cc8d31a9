"""What the receipt of an erasure says, the proof of its record, and where it is kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen

from ...errors import DamagedData, NotFoundError, StoreError
from ...logs import get_logger
from ...receipts import FORMAT, Level, Receipt, new_opening, subject_ref
from ...terms import Action, Actor, SubjectKey
from ..format import record as rec
from ..ledger.fences import ids_of
from ..ledger.lease import LEASE_S
from ..ledger.log import Draft, Fresh
from ..ledger.state import SnapshotRecord, State
from ..ledger.tree import Tree, inclusion_proof, leaf_hash
from ..store.protocol import StoreInfo
from .epoch import EpochChanged
from .look import read_table
from .reach import OVERWRITTEN, Reached
from .refold import refold
from .session import Session, to_datetime

__all__ = [
    "PRIMARY",
    "Before",
    "Left",
    "effective_by",
    "iso",
    "keep_receipt",
    "key_places",
    "places_of_bytes",
    "proof_at",
    "proof_of",
    "read_receipt",
    "replica_place",
    "sign_receipt",
]

Left = Sequence[tuple[str, datetime | None]]
"""Old key objects that the store keeps, each with the time until which, if it says so."""

_NIGHT: Final = timedelta(days=1)
PRIMARY: Final = "primary"
"""The vault's own store, where receipts name replicas by their ids."""
FEW_DOMAINS: Final = 16
"""So many are looked up one by one in a snapshot's table of domains."""
_OLD_COPIES: Final = (
    "Old copies of the store open with every credential that opened the vault when they were made: "
    "whoever has both, from before the erasure, can read them. Change and destroy them to end that."
)
_OLD_KEYS: Final = (
    "A process that had the vault open may read with keys that it holds until effective_by, and a "
    "backup that it had begun may hold them until it ends; nothing that it writes with them is "
    "accepted. What it had read by then is in its hands."
)
_OTHER_PROGRAMS: Final = (
    "effective_by binds programs that use this library. Another program that had copied keys out "
    "of the memory of one that had the vault open could go on reading the encrypted bytes."
)
_LIMITS: Final = (
    _OLD_COPIES,
    "What was restored or exported before the erasure is outside the vault.",
    _OLD_KEYS,
    _OTHER_PROGRAMS,
    "What the ledger says about them stays there, sealed; nobody has keys to it.",
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
    "the packs are deleted after the grace. Nobody has keys to them. The deadline is for a vault "
    "that is pruned every day, and where no unfinished run claims the packs."
)


@frozen
class Before:
    """What the vault held of those to erase, counted before the keys went."""

    snapshots: int
    packs: int
    stored_bytes: int

    @classmethod
    def of(cls, session: Session, domains: Collection[bytes]) -> Before | None:
        """
        Count, from the index and the ledger alone: no list of entries and no content.

        None where damage keeps it from counting: nobody has to stay for that.

        Cost: of each snapshot of more than 1,024 subjects the part of its table that
        would name them, three requests; for many subjects its list of domains.
        """
        try:
            return cls._of(session, domains)
        except (DamagedData, NotFoundError) as exc:
            get_logger().warning("what is to be erased cannot be counted", kind=exc.kind)
            return None

    @classmethod
    def _of(cls, session: Session, domains: Collection[bytes]) -> Before:
        state = session.log.state
        snapshots = sum(_names_any(session, record, domains) for record in state.snapshots.values())
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


def _names_any(session: Session, record: SnapshotRecord, domains: Collection[bytes]) -> bool:
    if record.domains_list and len(domains) <= FEW_DOMAINS:
        table = read_table(session, record)
        return any(table.find(domain_id) is not None for domain_id in domains)
    listed = record.domains_list
    ids = ids_of(session.log.fetch_list(listed) if listed else record.domains)
    return any(domain_id in domains for domain_id in ids)


def proof_of(session: Session, changed: EpochChanged) -> dict[str, Any]:
    """Prove the record by what stood before it: the last leaf's path are the peaks."""
    record = rec.take_apart(session.log.record(changed.index)).open()
    tree = Tree(changed.index, changed.peaks)
    tree.append(record.leaf)
    path = tuple(reversed(changed.peaks))
    shown = _shown(record, leaf_hash(record.leaf), path)
    return {"size": tree.size, "root": tree.head().hex(), "records": [shown]}


def proof_at(session: Session, indices: Sequence[int]) -> dict[str, Any]:
    """Prove any records under one head, by reading all; DamagedData where that fails."""
    hashes: list[bytes] = []
    found: dict[int, rec.Record] = {}
    tree = session.log.state.tree
    for folded in refold(session):
        hashes.append(folded.leaf)
        if folded.index in indices and folded.record is not None:
            found[folded.index] = folded.record
    if found.keys() != set(indices):
        raise DamagedData("the record of an erasure is void, or gone", kind="altered_ledger")
    hashes = hashes[: tree.size]
    shown = [_shown(found[at], hashes[at], inclusion_proof(hashes, at)) for at in indices]
    return {"size": tree.size, "root": tree.head().hex(), "records": shown}


def _shown(record: rec.Record, leaf: bytes, path: Sequence[bytes]) -> dict[str, Any]:
    return {
        "kind": "epoch",
        "index": record.frame.index,
        "at": iso(to_datetime(record.frame.at_us)),
        "leaf": leaf.hex(),
        "proof": [step.hex() for step in path],
    }


def sign_receipt(
    session: Session,
    actor: Actor,
    names: Mapping[SubjectKey, Collection[bytes]],
    known: Mapping[str, Any],
    left: Left,
    replicas: Sequence[Reached] = (),
) -> Receipt:
    """
    Sign what erasures did to subjects, and keep it in the ledger.

    Args:
        names: By subject the names of the erasures that took it.
        known: Facts of the newest erasure, and ``earlier``, as :func:`.erasures.proved`
            gives them, ``suppressed``, and ``physical`` and ``completes`` where the bytes are
            gone as well.
        left: Old key objects that the store keeps.
        replicas: What it has come to at each.
    """
    ends = [*(until for _, until in left), *(one.until for r in replicas for one in r.left)]
    openings = {key: new_opening() for key in names}
    shown = [
        {"ref": subject_ref(key, openings[key]), "erasures": sorted(name.hex() for name in of)}
        for key, of in names.items()
    ]
    now = session.log.now()
    level: Level = "E0" if ends else "E1"
    kinds = {kind for _, kind, _ in session.log.state.slots}
    facts = {
        **known,
        "format": FORMAT,
        "vault": session.header.vault_id.hex(),
        "authority": session.header.authority.hex(),
        "signed_at": iso(now),
        "stage": "completed" if "physical" in known else "keys_destroyed",
        # A level counts only if the ones below it hold.
        "level": level,
        "irrevocable_at": _irrevocable(now, ends),
        "subjects": shown,
        "keys": {
            "epoch": session.epoch.hex(),
            "destinations": key_places(left, replicas),
        },
        "physical": known.get("physical")
        or {"note": _PENDING, "destinations": places_of_bytes(session, now, replicas)},
        "verification": {
            "method": "the keyring that counts was asked for the subjects and for their domains",
            "at": iso(now),
            "found": 0,
        },
        "limits": [
            *_LIMITS,
            *([_PASSPHRASES] if "passphrase" in kinds else []),
            *([OVERWRITTEN] if any(not replica.is_lost for replica in replicas) else []),
            *(limit for replica in replicas if (limit := replica.limit)),
        ],
    }
    receipt = Receipt.sign(facts, session.keyring.root.authority_key, openings)
    erasure = bytes.fromhex(known["erasure"])
    keep_receipt(session, actor, erasure, receipt, Action.ERASE, again=True)
    return receipt


def places_of_bytes(
    session: Session, now: datetime, replicas: Sequence[Reached]
) -> list[dict[str, Any]]:
    """
    Name the stores that have encrypted bytes, and say when they are to be gone.

    That is when two prunes can have them deleted at the earliest, and by when nightly
    ones have. Nobody can say by when on a store that locks objects, has versions, may keep
    what is deleted or does not answer, nor at a replica, whose bytes go with the
    replications after the prunes.
    """
    try:
        info = session.store.describe()
        locks, soft_days = info.locks, info.soft_delete_days
        is_known = locks is None and _forgets(info)
    except StoreError as exc:
        get_logger().warning("the store does not say how long it keeps bytes", kind=exc.kind)
        locks, soft_days, is_known = None, None, False
    grace = timedelta(seconds=session.header.grace_s)
    earliest = now + grace + timedelta(days=soft_days or 0)
    primary = {
        "store": PRIMARY,
        "location": session.log.state.location,
        "grace_s": session.header.grace_s,
        "soft_delete_days": soft_days,
        "locks": locks,
        "earliest": iso(earliest),
        "deadline": iso(earliest + 2 * _NIGHT) if is_known else None,
    }
    there = [replica_place(session, one, now + grace) for one in replicas if not one.is_lost]
    return [primary, *there]


def _forgets(info: StoreInfo) -> bool:
    """Tell whether what is deleted is gone, but for a time that is known."""
    # Versions may be beyond what the account may delete, and only a delete tells.
    return info.keeps_deleted is False and info.versioning not in ("enabled", "suspended")


def replica_place(session: Session, replica: Reached, earliest: datetime | None) -> dict[str, Any]:
    """Name a replica as a store that has encrypted bytes."""
    return {
        **replica.named(),
        "grace_s": session.header.grace_s,
        "soft_delete_days": None,
        "locks": None,
        "earliest": None if earliest is None else iso(earliest),
        "deadline": None,
    }


def _irrevocable(now: datetime, ends: Sequence[datetime | None]) -> str | None:
    """Say when the last old key is gone: now, when the store says, or nobody knows when."""
    if not all(ends):
        return None
    return iso(max([now, *(end for end in ends if end is not None)]))


def key_places(left: Left, replicas: Sequence[Reached]) -> list[dict[str, Any]]:
    """Name the stores that had the keys, and say what of them is left."""
    return [_destination(left), *map(_at_replica, replicas)]


def _destination(left: Left) -> dict[str, Any]:
    shown = [{"object": name, "until": None if end is None else iso(end)} for name, end in left]
    stage = "pending" if left else "keys_destroyed"
    return {"store": PRIMARY, "stage": stage, "left": shown}


def _at_replica(replica: Reached) -> dict[str, Any]:
    left = [(one.what, one.until) for one in replica.left]
    return {**_destination(left), **replica.named(), "stage": replica.stage}


def effective_by(session: Session) -> str:
    """
    Say from when on no process uses keys of an erasure whose record stands in the ledger now.

    Whoever looks at the ledger from now on sees it, and nobody goes longer without.
    """
    return iso(session.log.now() + timedelta(seconds=LEASE_S + 1))


def iso(moment: datetime) -> str:
    """Give an instant as receipts have it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def keep_receipt(
    session: Session,
    actor: Actor,
    erasure: bytes,
    receipt: Receipt,
    action: Action,
    *,
    again: bool,
) -> bool:
    """
    Keep a receipt in the ledger, sealed; True if it is there.

    Args:
        again: Also where there is one already that completes the erasure.
    """
    ref = b"receipt" + session.keyring.generation_ref
    body = session.body("meta", ref, receipt.to_json())
    facts = rec.Receipted(erasure, receipt.stage)

    def draft(state: State) -> Draft | None:
        if not again and state.erasures[erasure].completed >= 0:
            return None
        return Draft("receipt", facts, [body, session.audit(actor, action)])

    return session.log.commit(Fresh(draft)) is not None


def read_receipt(session: Session, index: int) -> Receipt | None:
    """Read the receipt that a record holds; None if its body is lost."""
    record = rec.take_apart(session.log.record(index)).open()
    for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
        if ref.key == "meta" and data is not None:
            return Receipt.from_json(session.open_body(ref, data))
    return None
