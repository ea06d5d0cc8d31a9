"""A fold on disk: the body of a summary, and what a host keeps of a vault."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ...errors import DamagedData
from ..format import codec
from ..format.header import Bytes16, Bytes32, Count
from ..format.names import content_hash
from ..format.placefacts import Observed
from ..format.record import BodyRef, Certificate
from .fences import Erasure
from .marks import MAX_MARKS, MarkKind
from .policies import SetPolicy
from .replicas import Replica
from .state import (
    Alarm,
    Claim,
    Mark,
    Segment,
    SnapshotRecord,
    State,
    join_fronts,
    join_names,
    split_fronts,
    split_names,
)
from .tree import Tree

__all__ = ["Core", "decode_state", "encode_state", "state_digest"]


class StoredMark(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A mark that stands; fields as in :class:`Mark`."""

    id: Bytes16
    kind: MarkKind
    index: int
    at_us: int
    domain: bytes
    until_us: int | None
    snapshots: list[Bytes16]
    ref: BodyRef | None
    body: bytes
    """Empty for one that is lost."""


class StoredReplica(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A replica that the ledger knows; fields as in :class:`Replica`."""

    store: Bytes16
    index: int
    ref: BodyRef | None
    body: bytes
    """Empty for one that is lost."""
    size: Count
    peaks: Annotated[list[Bytes32], Meta(max_length=63)]
    keys: int
    swept: int
    kept: bytes
    left: list[str]
    at_us: int
    lost: bool


class Core(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A state on disk: the body of a summary."""

    vault_id: Bytes16
    size: int
    peaks: list[Bytes32]
    epoch: Bytes16
    epoch_index: Count
    root: Bytes32
    salt: Bytes32
    none_domain: Bytes16
    location: str | None
    at_us: int
    slots: list[tuple[bytes, str, bytes]]
    writers: list[Certificate]
    house: Bytes16
    shards: list[tuple[int, bytes]]
    snapshots: list[tuple[bytes, int, int, bytes, bytes, bytes, list[tuple[BodyRef, bytes]], bytes]]
    segments: list[tuple[bytes, bytes, int, Bytes32]]
    condemned: list[tuple[bytes, int, int]]
    swept: list[tuple[bytes, int, bytes]]
    claims: list[tuple[bytes, bytes, bytes, bytes, int]]
    marks: Annotated[list[StoredMark], Meta(max_length=MAX_MARKS)]
    lists: list[bytes]
    distrusted: bytes
    fenced: list[tuple[Bytes16, int]]
    erasures: list[tuple[Bytes16, int, int, int, int]]
    observed: tuple[Observed, int] | None
    replicas: list[StoredReplica]
    policy: tuple[int, BodyRef | None, bytes] | None
    last_summary: int
    alarms: Annotated[list[tuple[int, str, Bytes32]], Meta(max_length=1 << 20)]


def encode_state(state: State, *, bodies: bool = True) -> bytes:
    """
    Encode a state as the body of a summary; equal states, equal bytes.

    Without *bodies* those of snapshots are left empty, as lost ones are.
    """
    condemned = state.needed_condemned(state.vault_id)
    core = Core(
        vault_id=state.vault_id,
        size=state.size,
        peaks=state.tree.peaks,
        epoch=state.epoch,
        epoch_index=state.epoch_index,
        root=state.root,
        salt=state.salt,
        none_domain=state.none_domain,
        location=state.location,
        observed=state.observed,
        at_us=state.at_us,
        slots=list(state.slots),
        writers=[state.writers[k] for k in sorted(state.writers)],
        house=state.house,
        shards=sorted(state.shards.items()),
        snapshots=[
            (
                *(s.id, s.index, s.at_us, s.root, s.domains, s.domains_list),
                [(ref, body or b"") if bodies else (ref, b"") for ref, body in s.bodies],
                s.writer,
            )
            for s in sorted(state.snapshots.values(), key=lambda s: s.index)
        ],
        segments=[(s.name, s.front, s.added, s.leaf) for s in state.segments],
        condemned=sorted((name, *when) for name, when in condemned.items()),
        swept=sorted(
            (k, upto, join_names(sorted(kept))) for k, (upto, kept) in state.swept.items()
        ),
        claims=sorted(
            (c.run, c.series, join_fronts(c.packs), join_names(sorted(c.relies)), c.at_us)
            for c in state.claims.values()
        ),
        lists=sorted(state.lists),
        distrusted=join_names(sorted(state.distrusted)),
        fenced=sorted(state.fenced.items()),
        erasures=sorted((name, *found) for name, found in state.erasures.items()),
        replicas=[_kept(state.replicas[k], bodies=bodies) for k in sorted(state.replicas)],
        policy=_said(state.policy, bodies=bodies),
        last_summary=state.last_summary,
        alarms=[(a.index, a.reason, a.leaf) for a in state.alarms],
        marks=[_stored(mark, bodies=bodies) for mark in state.marks.values()],
    )
    return codec.encode(core)


def decode_state(data: bytes, *, authority: bytes) -> State:
    """
    Load what :func:`encode_state` wrote.

    Raises:
        DamagedData: It is no state.
    """
    core = codec.decode(data, Core)
    try:
        tree = Tree(core.size, core.peaks)
    except ValueError as exc:
        raise DamagedData("a summary's tree does not fit its size") from exc
    return State(
        vault_id=core.vault_id,
        authority=authority,
        tree=tree,
        epoch=core.epoch,
        epoch_index=core.epoch_index,
        root=core.root,
        salt=core.salt,
        none_domain=core.none_domain,
        location=core.location,
        observed=core.observed,
        at_us=core.at_us,
        slots=tuple(core.slots),
        writers={c.writer: c for c in core.writers},
        house=core.house,
        shards=dict(core.shards),
        snapshots={s[0]: SnapshotRecord(*s[:6], _known(s[6]), s[7]) for s in core.snapshots},
        segments=tuple(Segment(*s) for s in core.segments),
        condemned={name: (index, at) for name, index, at in core.condemned},
        swept={k: (upto, frozenset(split_names(kept))) for k, upto, kept in core.swept},
        claims={
            run: Claim(
                run, series, tuple(split_fronts(packs)), frozenset(split_names(relies)), at_us
            )
            for run, series, packs, relies, at_us in core.claims
        },
        lists=frozenset(core.lists),
        distrusted=frozenset(split_names(core.distrusted)),
        fenced=dict(core.fenced),
        erasures={name: Erasure(*found) for name, *found in core.erasures},
        replicas={replica.store: _back(replica) for replica in core.replicas},
        policy=_heard(core.policy),
        last_summary=core.last_summary,
        alarms=tuple(Alarm(*a) for a in core.alarms),
        marks={mark.id: _loaded(mark) for mark in core.marks},
    )


def state_digest(state: State) -> bytes:
    """Hash what all clients agree on: everything but bodies, which may be lost to some."""
    return content_hash(encode_state(state, bodies=False))


def _known(bodies: list[tuple[BodyRef, bytes]]) -> tuple[tuple[BodyRef, bytes | None], ...]:
    return tuple((ref, body if content_hash(body) == ref.hash else None) for ref, body in bodies)


def _said(policy: SetPolicy | None, *, bodies: bool) -> tuple[int, BodyRef | None, bytes] | None:
    if policy is None:
        return None
    return (policy.index, policy.ref, (policy.body or b"") if bodies else b"")


def _heard(stored: tuple[int, BodyRef | None, bytes] | None) -> SetPolicy | None:
    if stored is None:
        return None
    index, ref, body = stored
    return SetPolicy(index, ref, None if ref is None else _known([(ref, body)])[0][1])


def _stored(mark: Mark, *, bodies: bool) -> StoredMark:
    return StoredMark(
        mark.id,
        mark.kind,
        mark.index,
        mark.at_us,
        mark.domain,
        mark.until_us,
        list(mark.snapshots),
        mark.ref,
        (mark.body or b"") if bodies else b"",
    )


def _loaded(mark: StoredMark) -> Mark:
    body = None if mark.ref is None else _known([(mark.ref, mark.body)])[0][1]
    return Mark(
        mark.id,
        mark.kind,
        mark.index,
        mark.at_us,
        mark.domain,
        mark.until_us,
        tuple(mark.snapshots),
        mark.ref,
        body,
    )


def _kept(replica: Replica, *, bodies: bool) -> StoredReplica:
    ref, body = replica.body or (None, b"")
    return StoredReplica(
        replica.store,
        replica.index,
        ref,
        (body or b"") if bodies else b"",
        replica.size,
        list(replica.peaks),
        replica.keys,
        replica.swept,
        join_names(sorted(replica.kept)),
        sorted(replica.left),
        replica.at_us,
        replica.lost,
    )


def _back(stored: StoredReplica) -> Replica:
    return Replica(
        stored.store,
        stored.index,
        None if stored.ref is None else _known([(stored.ref, stored.body)])[0],
        stored.size,
        tuple(stored.peaks),
        stored.keys,
        stored.swept,
        frozenset(split_names(stored.kept)),
        frozenset(stored.left),
        stored.at_us,
        stored.lost,
    )
