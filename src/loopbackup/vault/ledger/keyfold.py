"""The fold of what changes keys: creation, domains, writers, epochs, erasures, receipts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..format import record as rec
from ..format.record import Record
from .epoch import why_void
from .fences import Erasure, ids_of, of_others, why_no_erasure, why_no_receipt
from .marks import Mark, kept_domains
from .policies import SetPolicy, policy_of
from .values import SnapshotRecord, epoch_short
from .verdicts import FetchList, Void, listed

__all__ = ["KeyedState", "plan_keys"]


class KeyedState(Protocol):
    """What of the fold such records are held against, and change."""

    vault_id: bytes
    authority: bytes
    epoch: bytes
    epoch_index: int
    root: bytes
    salt: bytes
    none_domain: bytes
    location: str | None
    observed: tuple[rec.Observed, int] | None
    policy: SetPolicy | None
    slots: tuple[tuple[bytes, str, bytes], ...]
    writers: dict[bytes, rec.Certificate]
    house: bytes
    shards: dict[int, bytes]
    snapshots: dict[bytes, SnapshotRecord]
    condemned: dict[bytes, tuple[int, int]]
    marks: dict[bytes, Mark]
    fenced: dict[bytes, int]
    erasures: dict[bytes, Erasure]

    @property
    def size(self) -> int:
        """How many records are folded."""
        ...

    def keep_list(self, digest: bytes) -> None:
        """Remember a list object that a record names."""
        ...

    def set_marks(self, marks: dict[bytes, Mark]) -> None:
        """Replace the marks that stand."""
        ...


def plan_keys(
    state: KeyedState, record: Record, facts: Any, fetch_list: FetchList
) -> Callable[[], None] | None:
    """
    Check what a record needs that changes keys or writers; give the change, which cannot fail.

    None for a record of any other kind.

    Raises:
        Void: It does not hold.
        ListLost: A list that it names cannot be read.
    """
    match facts:
        case rec.Created():
            return lambda: _create(state, record, facts)
        case rec.DomainsAdded():
            return _add_domains(state, record, facts)
        case rec.WriterEnrolled():
            return _enrol(state, facts)
        case rec.EpochChanged():
            return _change_epoch(state, record, facts, fetch_list)
        case rec.Receipted():
            return _keep_receipt(state, facts)
        case _:
            return None


def _create(state: KeyedState, record: Record, facts: rec.Created) -> None:
    state.epoch, state.root, state.salt = record.frame.epoch, record.frame.root, facts.salt
    state.none_domain, state.location = facts.none_domain, facts.location
    observed = facts.observed
    state.observed = None if observed is None else (observed, record.frame.at_us)
    state.policy = policy_of(record) if facts.policy else None
    state.slots = tuple(facts.slots)
    state.writers, state.house = {facts.house.writer: facts.house}, facts.house.writer
    state.shards = dict(facts.shards)


def _add_domains(state: KeyedState, record: Record, facts: rec.DomainsAdded) -> Callable[[], None]:
    for number, base, _new in facts.changes:
        if state.shards.get(number, b"") != base:
            raise Void("it replaces a keyring shard that is no longer current")
        if b"s" + _new in state.condemned:
            raise Void("it names an object that is condemned")

    def effect() -> None:
        state.shards = state.shards | {number: new for number, _, new in facts.changes}
        when = (state.size, record.frame.at_us)
        replaced = [b"s" + base for _, base, _new in facts.changes if base]
        state.condemned = state.condemned | dict.fromkeys(replaced, when)
        state.keep_list(facts.added_list)

    return effect


def _enrol(state: KeyedState, facts: rec.WriterEnrolled) -> Callable[[], None]:
    if not rec.verify_certificate(
        facts.certificate, vault_id=state.vault_id, authority=state.authority
    ):
        raise Void("the authority did not sign the certificate")

    def effect() -> None:
        state.writers = {**state.writers, facts.certificate.writer: facts.certificate}

    return effect


def _change_epoch(
    state: KeyedState, record: Record, facts: rec.EpochChanged, fetch_list: FetchList
) -> Callable[[], None]:
    erased = facts.erased or listed(facts.erased_list, fetch_list)
    kept = kept_domains(state.marks, record.frame.at_us)
    reason = why_void(state, facts) or why_no_erasure(state, facts, erased, kept)
    if reason is not None:
        raise Void(reason)

    def effect() -> None:
        when = (state.size, record.frame.at_us)
        gone = [epoch_short(state.epoch), *(b"s" + base for _, base, _ in facts.changes)]
        state.condemned = state.condemned | dict.fromkeys(gone, when)
        state.shards = state.shards | {number: new for number, _, new in facts.changes}
        state.epoch, state.root, state.salt = facts.epoch, facts.root, facts.salt
        state.epoch_index = state.size
        state.slots = tuple(facts.slots)
        # What the old house key signs from here on is void.
        kept = {k: v for k, v in state.writers.items() if k != state.house}
        state.house = facts.house.writer
        state.writers = {**kept, state.house: facts.house}
        if facts.erasure:
            state.fenced = state.fenced | dict.fromkeys(ids_of(erased), state.size)
            state.erasures = {**state.erasures, facts.erasure: Erasure(state.size)}
            state.snapshots = of_others(state.snapshots, state.fenced)
            # What an overlay shows dies with its subject.
            marks = state.marks.items()
            state.set_marks({k: m for k, m in marks if m.domain not in state.fenced})
            state.keep_list(facts.erased_list)

    return effect


def _keep_receipt(state: KeyedState, facts: rec.Receipted) -> Callable[[], None]:
    reason = why_no_receipt(state, facts)
    if reason is not None:
        raise Void(reason)

    def effect() -> None:
        which = "completed" if facts.stage == "completed" else "receipt"
        erasure = state.erasures[facts.erasure]._replace(**{which: state.size})
        state.erasures = {**state.erasures, facts.erasure: erasure}

    return effect
