"""Creating and opening a vault."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import (
    AlreadyExistsError,
    CredentialError,
    DamagedData,
    FormatError,
    InputError,
    LoopbackupError,
    NotFoundError,
)
from ...terms import Action, Actor, AllowAll, Facts, Gate, check_actor, check_text
from ..content.index import Index
from ..content.reader import ChunkReader
from ..format import codec, names
from ..format import record as rec
from ..format.bounds import MAX_HEADER_OBJECT_BYTES
from ..format.header import (
    MAX_GRACE_S,
    Header,
    StoreMark,
    VaultObject,
    header_hash,
    join_header,
    sign_store,
    split_header,
    verify_store,
)
from ..format.seal import FORMAT, SUITE
from ..keys.credentials import Credential
from ..keys.epoch import certify_house
from ..keys.keyring import Keyring, first_shard
from ..keys.kms import Kms, as_credential
from ..keys.root import Root, Unlocked, encode_root, new_root, unlock
from ..keys.slots import SlotContext, encode_slot, make_slot
from ..ledger.log import Log
from ..ledger.memory import Head, LocalMemory
from ..ledger.places import Pin, Places
from ..ledger.tree import Tree
from ..store.local import LocalStore
from ..store.probe import PROBES, probe_exclusive_create
from ..store.protocol import Store
from ..store.registry import open_store, redact_url
from ..store.seam import StoreSeam
from .locate import check_declared, observed_in
from .session import UNNAMED, Session, chunker_params

__all__ = ["aware_clock", "create_vault", "default_state_dir", "open_vault", "system_clock"]

MAX_LOCATION_CHARS: Final = 4096
"""It stands in record 0, whose frame has 64 KiB."""


def system_clock() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)


def default_state_dir() -> Path:
    """Give the folder of the user where verified heads and caches are kept."""
    import platformdirs

    return Path(platformdirs.user_state_dir("loopbackup", appauthor=False))


def aware_clock(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """
    Give *clock* as one that is never taken for another zone.

    Raises:
        InputError: It cannot be called; or, when it is read, it gives no aware datetime.
    """
    if not callable(clock):
        raise InputError("clock is a function that gives aware datetimes")

    def read() -> datetime:
        moment: object = clock()
        if not isinstance(moment, datetime) or moment.utcoffset() is None:
            raise InputError("the clock gave no datetime with a zone: datetime.now(UTC) is one")
        return moment

    return read


def create_vault(
    url: str | os.PathLike[str],
    key: Credential | Kms,
    *,
    storage_options: Mapping[str, Any] | None,
    location: str | None,
    grace_s: int,
    single_writer: bool,
    clock: Callable[[], datetime],
    state_dir: Path | None = None,
    store: Store | None = None,
    sizes: Mapping[str, int] | None = None,
    allow_insecure_loopback: bool = False,
) -> None:
    """
    Write a new vault: keys first, then the header, then record 0.

    Raises:
        AlreadyExistsError: A vault stands there, or anything else.
        InputError: The store does not create exclusively, an argument is of the
            wrong type or out of bounds, or the state directory cannot be made.
        StoreError: The place may not be written to.
    """
    credential = as_credential(key)
    _check_terms(location, grace_s, single_writer)
    clock = aware_clock(clock)
    authority = Ed25519PrivateKey.generate()
    header = Header(
        format=FORMAT,
        suite=SUITE,
        vault_id=os.urandom(16),
        created_us=int(clock().timestamp() * 1_000_000),
        authority=authority.public_key().public_bytes_raw(),
        grace_s=grace_s,
        single_writer=single_writer,
        **(sizes or {}),
    )
    _check_readable(header)
    where, places = redact_url(url), Places(state_dir)
    seam = StoreSeam(
        store or open_store(url, storage_options, allow_insecure_loopback=allow_insecure_loopback)
    )
    try:
        info = seam.describe()
        check_declared("create", where, info, location, clock())
        if _is_taken(seam):
            raise AlreadyExistsError(f"create refused: {where} is not empty; nothing was changed")
        if not single_writer and not probe_exclusive_create(seam):
            raise InputError(
                f"create refused: {where} does not keep to exclusive create, so two writers could "
                "undo each other. single_writer=True takes that duty upon you"
            )
        raw = codec.encode(header)
        root = new_root(header.vault_id, header_hash(raw), authority.private_bytes_raw())
        record = _write_keys(seam, header, root, credential, (location, observed_in(info)))
        mark = sign_store(header.vault_id, header.vault_id, authority)
        seam.put(names.HEADER, join_header(header, mark, record))
        seam.put(names.record_name(0), record)
    finally:
        if store is None:
            seam.close()
    places.keep(_place(where, seam.store), Pin(header.vault_id, header.authority))


def _check_terms(location: object, grace_s: object, single_writer: object) -> None:
    if not isinstance(single_writer, bool):
        raise InputError("single_writer is True or False")
    if location is not None:
        check_text("location", location, max_chars=MAX_LOCATION_CHARS)
    if type(grace_s) is not int or not 0 <= grace_s <= MAX_GRACE_S:
        raise InputError(f"grace_s is a whole number of seconds, from 0 to {MAX_GRACE_S:,}")


def _is_taken(seam: StoreSeam) -> bool:
    root = seam.store.root if isinstance(seam.store, LocalStore) else None
    # A listing shows objects only: it would pass over a file in the folder's place.
    if root is not None and os.path.lexists(root) and not os.path.isdir(root):
        return True
    # What a probe left that was killed stands in nobody's way.
    return any(not found.key.startswith(PROBES) for found in seam.list(""))


def _check_readable(header: Header) -> None:
    """Refuse a header that no vault could be opened with; InputError."""
    try:
        split_header(join_header(header, StoreMark(bytes(16), bytes(64)), b""))
    except FormatError as exc:
        raise InputError(f"create refused: {exc}; nothing was written") from exc
    chunker_params(header)


def _write_keys(
    seam: StoreSeam,
    header: Header,
    root: Root,
    credential: Credential,
    place: tuple[str | None, rec.Observed | None],
) -> bytes:
    """Write shard, slot and root of the first epoch; give record 0, which makes them current."""
    root_key, salt = os.urandom(32), os.urandom(32)
    context = SlotContext(header.vault_id, header.authority, root.epoch, salt)
    slot = make_slot(credential, root_key, context)
    root = msgspec.structs.replace(root, slots=[(slot.id, slot.kind, slot.public_key)])
    number, shard, none_domain = first_shard(root)
    shard_hash = names.content_hash(shard)
    seam.put(names.shard_name(shard_hash), shard)
    sealed_slot = encode_slot(slot)
    seam.put(names.slot_name(root.epoch, slot.id), sealed_slot)
    sealed = encode_root(root, root_key)
    seam.put(names.root_name(root.epoch), sealed)

    facts = rec.Created(
        root.header_hash,
        salt,
        certify_house(root),
        [(slot.id, slot.kind, names.content_hash(sealed_slot))],
        [(number, shard_hash)],
        none_domain,
        *place,
    )
    frame = rec.Frame(
        rec.VERSION,
        0,
        os.urandom(16),
        Tree().head(),
        root.epoch,
        names.content_hash(sealed),
        root.house_writer,
        header.created_us,
        "created",
        [],
        msgspec.Raw(codec.encode(facts)),
    )
    house = Ed25519PrivateKey.from_private_bytes(root.house_key)
    return rec.encode_record(frame, (), vault_id=header.vault_id, key=house)


def _place(where: str, store: Store) -> str | None:
    """Name the place of a vault for this host; None where nothing outlives the process."""
    if isinstance(store, LocalStore):
        return store.root
    return None if where.startswith("memory://") else where


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
    _ask(session, actor)
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
    place, pin = _place(where, seam.store), Pin(header.vault_id, header.authority)
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
        gate or AllowAll(),
        read_only,
        _own_folder(seam.store),
        credential,
        unlocked.slot,
    )
    log.keys = session
    return session


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


def _ask(session: Session, actor: Actor | None) -> None:
    """Ask the gate; a refusal is recorded when the session ends, and nobody else will end it."""
    try:
        session.ask(Action.OPEN, actor or UNNAMED, Facts(actor=actor))
    except LoopbackupError:
        session.close()
        raise
