"""Opening a vault: header, ledger, slot, root."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import (
    CredentialError,
    DamagedData,
    FormatError,
    InputError,
    LoopbackupError,
    NotFoundError,
)
from ...terms import Action, Actor, Facts, Gate, check_actor
from ..content.index import Index
from ..content.reader import ChunkReader
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_HEADER_OBJECT_BYTES
from ..format.header import VaultObject, header_hash, split_header, verify_store
from ..keys.credentials import Credential
from ..keys.keyring import Keyring
from ..keys.kms import Kms, as_credential
from ..keys.root import Unlocked, unlock
from ..ledger.log import Log
from ..ledger.memory import Head, LocalMemory
from ..ledger.places import Pin, Places
from ..store.local import LocalStore
from ..store.protocol import Store
from ..store.registry import open_store, redact_url
from ..store.seam import StoreSeam
from .gates import Gates
from .hosting import aware_clock, place_of
from .policies import run_override
from .replica_place import where_of
from .session import UNNAMED, Session, chunker_params

__all__ = ["open_vault"]


def _own_folder(store: Store) -> frozenset[tuple[int, int]]:
    """Find the folder of a vault on local disk, wherever the process goes from here."""
    if not isinstance(store, LocalStore):
        return frozenset()
    status = os.stat(store.root)
    return frozenset({(status.st_dev, status.st_ino)})


def _parse_key(text: object) -> bytes:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InputError("public_key is 64 hex digits, as vault.public_key gives it")
    return bytes.fromhex(text)


def _read_header(seam: StoreSeam, where: str, *, read_only: bool) -> VaultObject:
    """Read what must be known before any key; nobody but a reader goes on with a replica."""
    try:
        data = seam.get_whole(names.HEADER, MAX_HEADER_OBJECT_BYTES)
    except NotFoundError:
        raise FormatError(f"there is no vault at {where}", kind="no_vault") from None
    found = split_header(data)
    if not verify_store(found.mark, found.header):
        raise FormatError(f"the header of the vault at {where} was altered", kind="altered_header")
    vault_id = found.header.vault_id
    if found.mark.store != vault_id and not read_only:
        raise InputError(
            f"{where} is a replica of vault {vault_id.hex()[:8]}: read-only until promote. "
            "Open it with read_only=True, or open the vault itself",
            kind="replica",
        )
    return found


def open_vault(
    url: str | os.PathLike[str],
    key: Credential | Kms,
    *,
    storage_options: Mapping[str, Any] | None,
    actor: Actor | None,
    read_only: bool,
    head: str | None,
    clock: Callable[[], datetime],
    state_dir: Path | None,
    public_key: str | None = None,
    gate: Gate | None = None,
    store: Store | None = None,
    allow_insecure_loopback: bool = False,
    replicas: Mapping[str, Callable[[], Store]] | None = None,
    override: str | None = None,
) -> Session:
    """
    Open a vault: header, ledger, slot, root.

    Raises:
        FormatError: There is no vault, or none of this library.
        CredentialError: The credential opens no slot; kind "forged_vault": the
            vault's authority is not *public_key*.
        RollbackDetected: The store is behind what was seen before, or holds
            another vault.
    """
    credential = as_credential(key)
    expected = None if public_key is None else _parse_key(public_key)
    known = None if head is None else Head.parse(head)
    actor = None if actor is None else check_actor(actor)
    clock = aware_clock(clock)
    seam = StoreSeam(
        store or open_store(url, storage_options, allow_insecure_loopback=allow_insecure_loopback)
    )
    try:
        session = _open(
            seam,
            redact_url(url),
            credential,
            expected=expected,
            known=known,
            read_only=read_only,
            clock=clock,
            state_dir=state_dir,
            gate=gate,
        )
    except BaseException:
        seam.close()
        raise
    session.replicas = dict(replicas or {})
    session.allow_insecure_loopback = allow_insecure_loopback
    _ask(session, actor, override)
    return session


def _open(
    seam: StoreSeam,
    where: str,
    credential: Credential,
    *,
    expected: bytes | None,
    known: Head | None,
    read_only: bool,
    clock: Callable[[], datetime],
    state_dir: Path | None,
    gate: Gate | None,
) -> Session:
    """Read header, ledger and keys; give the session that they make."""
    header, raw, mark, first = _read_header(seam, where, read_only=read_only)
    place, pin = place_of(where, seam.store), Pin(header.vault_id, header.authority)
    places = Places(state_dir)
    if expected is None:
        places.hold_against(place, pin)
    elif expected != header.authority:
        raise CredentialError(
            f"the vault at {where} is not the one that public_key= names. Nothing was read "
            "with the credential; ask who changed the store",
            kind="forged_vault",
        )
    memory = LocalMemory(state_dir, header.vault_id)
    is_replica = mark.store != header.vault_id
    log = Log(seam, header, first, clock=clock, memory=memory, is_replica=is_replica)
    created = rec.parse_record(first, 0).facts()
    if created.header_hash != header_hash(raw):
        raise FormatError(f"the header of the vault at {where} was altered", kind="altered_header")
    try:
        chunker_params(header)
    except InputError as exc:
        raise FormatError(f"the header of the vault at {where} is out of bounds: {exc}") from exc
    log.load(head=known)
    trusted = expected is not None or places.knows(place, pin)
    unlocked = _unlock(seam, log, header_hash(raw), credential, trusted=trusted)
    log.remember()
    places.keep(place, pin)
    if not read_only:
        log.complete_creation()
    roles = frozenset({"reader"} if read_only else rec.ALL_ROLES)
    log.signer = None if read_only else unlocked.root.signer(roles)
    keyring = Keyring(
        seam,
        unlocked.root,
        current=lambda: log.state,
        refresh=log.refresh,
        keep_lease=log.lease.keep,
    )
    index = Index(seam, keyring.index_secret, header.vault_id, log.packs_of)
    reader = ChunkReader(seam, index, log)
    session = Session(
        where,
        seam,
        header,
        log,
        keyring,
        index,
        reader,
        Gates(gate),
        read_only,
        _own_folder(seam.store),
        credential,
        unlocked.slot,
    )
    log.keys = session
    session.declared = _declared(session, mark.store)
    return session


def _declared(session: Session, store: bytes) -> str | None:
    """Give where this very store lies, as its operator declared it."""
    state = session.log.state
    if not session.log.is_replica:
        return state.location
    known = state.replicas.get(store)
    body = None if known is None else where_of(session, known)
    return None if body is None else body.location


def _unlock(
    seam: StoreSeam, log: Log, digest: bytes, credential: Credential, *, trusted: bool
) -> Unlocked:
    """Open the current epoch; fold on where another one begins meanwhile."""
    while True:
        state = log.state
        try:
            return unlock(seam, state, digest, credential, trusted=trusted)
        except (CredentialError, DamagedData):
            log.fold_further()
            if log.state.epoch == state.epoch:
                raise


def _ask(session: Session, actor: Actor | None, override: str | None) -> None:
    """Ask the gate; a refusal is recorded when the session ends, and nobody else will end it."""
    try:
        if override is not None:
            run_override(session, actor or UNNAMED, override)
        session.ask(Action.OPEN, actor or UNNAMED, Facts(actor=actor))
    except LoopbackupError:
        session.close()
        raise
