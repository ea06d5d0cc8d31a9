"""The place of a replica: found there, or made, and known to the ledger before any key."""

from __future__ import annotations

import os
from functools import partial

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import (
    AlreadyExistsError,
    DamagedData,
    FormatError,
    InputError,
    NotFoundError,
)
from ...terms import Action, Actor
from ..format import codec, names
from ..format import record as rec
from ..format.bounds import MAX_HEADER_OBJECT_BYTES
from ..format.header import VaultObject, join_header, sign_store, split_header, verify_store
from ..format.replicafacts import MAX_PLACE_CHARS, ReplicaBody
from ..ledger.log import Draft, Fresh
from ..ledger.replicas import Replica
from ..ledger.state import State
from ..store.probe import probe_exclusive_create
from ..store.seam import StoreSeam
from .locate import check_declared
from .session import Session

__all__ = ["ReplicaPlace", "find_replica", "make_replica", "where_of"]


@frozen
class ReplicaPlace:
    """A store that holds a copy of the vault, or soon will."""

    url: str
    """Without credentials."""
    seam: StoreSeam
    store: bytes
    """Its id."""


def where_of(session: Session, replica: Replica) -> ReplicaBody | None:
    """Say where a replica lies; None where that is lost."""
    if replica.body is None or replica.body[1] is None:
        return None
    try:
        return codec.decode(session.open_body(replica.body[0], replica.body[1]), ReplicaBody)
    except (DamagedData, NotFoundError):
        return None


def find_replica(session: Session, url: str, seam: StoreSeam) -> ReplicaPlace | None:
    """
    Look what stands at *url*, which *seam* leads to; None if there is nothing at all.

    Raises:
        InputError: It is the vault itself, or a copy of it that is no replica, or a
            replica that was given up.
        AlreadyExistsError: It is something else.
        StoreError: It cannot be reached.

    Cost: one request; another where nothing stands.
    """
    try:
        data = seam.get_whole(names.HEADER, MAX_HEADER_OBJECT_BYTES)
    except NotFoundError:
        if next(iter(seam.list("")), None) is not None:
            raise AlreadyExistsError(
                f"replicate refused: {url} is not empty, and holds no vault; nothing was changed"
            ) from None
        return None
    found = _ours(session, url, data)
    if found.mark.store == session.header.vault_id:
        raise InputError(
            f"replicate refused: {url} is the vault itself, or a copy of all its files, which "
            "says that it is. A replica begins in an empty place",
            kind="primary",
        )
    known = session.log.state.replicas.get(found.mark.store)
    if known is not None and known.lost:
        raise InputError(
            f"replicate refused: the replica at {url} was declared lost, so erasures went on "
            "without it. Empty the place, and replicate anew",
            kind="lost",
        )
    return ReplicaPlace(url, seam, found.mark.store)


def _ours(session: Session, url: str, data: bytes) -> VaultObject:
    try:
        found = split_header(data)
        is_ours = found.header == session.header and verify_store(found.mark, found.header)
    except FormatError:
        is_ours = False
    if not is_ours or found.record != session.log.first:
        raise AlreadyExistsError(
            f"replicate refused: something else than a replica of vault "
            f"{session.header.vault_id.hex()[:8]} stands at {url}; nothing was changed"
        )
    return found


def make_replica(
    session: Session, url: str, seam: StoreSeam, actor: Actor, location: str | None
) -> ReplicaPlace:
    """
    Give the replica at *url*, made where nothing stands, and make the ledger know of it.

    No key is copied before the ledger knows: an erasure that comes after waits for it.

    Raises:
        InputError: As :func:`find_replica`; or the store does not create exclusively, or its
            provider says that it lies elsewhere than declared.
        AlreadyExistsError, StoreError: As :func:`find_replica`.
    """
    place, is_checked = find_replica(session, url, seam), False
    if place is None:
        _check_place(session, url, seam, location)
        place = _begin(session, url, seam) or find_replica(session, url, seam)
        if place is None:
            raise DamagedData(f"what was just there at {url} is gone", kind="replica")
        is_checked = True
    known = session.log.state.replicas.get(place.store)
    said = None if known is None else where_of(session, known)
    if location is None and said is not None:
        location = said.location
    if said is None or (said.url, said.location) != (url, location):
        if not is_checked:
            _check_place(session, url, seam, location)
        make = partial(_known, session, actor, place.store, ReplicaBody(url=url, location=location))
        session.log.commit(Fresh(make))
    return place


def _check_place(session: Session, url: str, seam: StoreSeam, location: str | None) -> None:
    check_declared("replicate", url, seam.describe(), location, session.log.now())


def _known(session: Session, actor: Actor, store: bytes, body: ReplicaBody, _state: State) -> Draft:
    if len(body.url) > MAX_PLACE_CHARS:
        raise InputError(f"the URL of a replica has {MAX_PLACE_CHARS:,} characters at most")
    sealed = session.body("meta", b"replica" + session.keyring.generation_ref, codec.encode(body))
    return Draft(
        "replica", rec.ReplicaAdded(store), [sealed, session.audit(actor, Action.REPLICATE)]
    )


def _begin(session: Session, url: str, seam: StoreSeam) -> ReplicaPlace | None:
    """Write the object ``vault`` of a new replica; None if somebody else was faster."""
    # A tombstone keeps old keys out only where a taken name is refused.
    exclusive = session.header.single_writer or probe_exclusive_create(seam, rounds=1, contenders=4)
    if not exclusive:
        raise InputError(
            f"replicate refused: {url} does not keep to exclusive create, so a slow copy could "
            "bring back keys that were erased"
        )
    root = session.keyring.root
    authority = Ed25519PrivateKey.from_private_bytes(root.authority_key)
    mark = sign_store(os.urandom(16), session.header.vault_id, authority)
    try:
        seam.put(names.HEADER, join_header(session.header, mark, session.log.first))
    except AlreadyExistsError:
        return None
    return ReplicaPlace(url, seam, mark.store)
