"""Creating and opening a vault."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import (
    AlreadyExistsError,
    FormatError,
    InputError,
    NotFoundError,
)
from ...terms import Action, Actor, AllowAll, Facts, Gate
from ..content.index import Index
from ..content.reader import ChunkReader
from ..format import codec, names
from ..format import record as rec
from ..format.header import Header, header_hash, join_header, split_header
from ..format.seal import FORMAT, SUITE
from ..keys.credentials import Credential
from ..keys.keyring import Keyring, first_shard
from ..keys.root import Root, encode_root, new_root, unlock
from ..keys.slots import SlotContext, encode_slot, make_slot
from ..ledger.log import Log
from ..ledger.memory import Head, LocalMemory
from ..ledger.tree import Tree
from ..store.local import LocalStore
from ..store.probe import probe_exclusive_create
from ..store.protocol import Store
from ..store.registry import open_store, redact_url
from ..store.seam import StoreSeam
from .session import UNNAMED, Session, chunker_params

__all__ = ["create_vault", "default_state_dir", "open_vault", "system_clock"]


def system_clock() -> datetime:
    """Read the system's clock."""
    return datetime.now(UTC)


def default_state_dir() -> Path:
    """Give the folder of the user where verified heads and caches are kept."""
    import platformdirs

    return Path(platformdirs.user_state_dir("loopbackup", appauthor=False))


def create_vault(
    url: str | os.PathLike[str],
    credential: Credential,
    *,
    storage_options: Mapping[str, Any] | None,
    location: str | None,
    grace_s: int,
    single_writer: bool,
    clock: Callable[[], datetime],
    store: Store | None = None,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """
    Write a new vault: keys first, then the header, then record 0.

    Raises:
        AlreadyExistsError: A vault stands there, or anything else.
        InputError: The store does not create exclusively, or a number is out of bounds.
    """
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
    seam = StoreSeam(store or open_store(url, storage_options))
    where = redact_url(url)
    if next(iter(seam.list("")), None) is not None:
        raise AlreadyExistsError(f"create refused: {where} is not empty; nothing was changed")
    if not single_writer and not probe_exclusive_create(seam.store):
        raise InputError(
            f"create refused: {where} does not keep to exclusive create, so two writers could "
            "undo each other. single_writer=True takes that duty upon you"
        )
    raw = codec.encode(header)
    root = new_root(header.vault_id, header_hash(raw), authority.private_bytes_raw())
    record = _write_keys(seam, header, root, credential, location)
    seam.put(names.HEADER, join_header(header, record))
    seam.put(names.record_name(0), record)


def _check_readable(header: Header) -> None:
    """Refuse a header that no vault could be opened with; InputError."""
    try:
        split_header(join_header(header, b""))
    except FormatError as exc:
        raise InputError(f"create refused: {exc}; nothing was written") from exc
    chunker_params(header)


def _write_keys(
    seam: StoreSeam, header: Header, root: Root, credential: Credential, location: str | None
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

    house = Ed25519PrivateKey.from_private_bytes(root.house_key)
    certificate = rec.sign_certificate(
        rec.Certificate(root.house_writer, house.public_key().public_bytes_raw(), rec.ALL_ROLES),
        vault_id=header.vault_id,
        authority=Ed25519PrivateKey.from_private_bytes(root.authority_key),
    )
    facts = rec.Created(
        root.header_hash,
        salt,
        certificate,
        [(slot.id, slot.kind, names.content_hash(sealed_slot))],
        [(number, shard_hash)],
        none_domain,
        location,
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
    return rec.encode_record(frame, (), vault_id=header.vault_id, key=house)


def _own_folder(store: Store) -> frozenset[tuple[int, int]]:
    """Find the folder of a vault on local disk, wherever the process goes from here."""
    if not isinstance(store, LocalStore):
        return frozenset()
    status = os.stat(store.root)
    return frozenset({(status.st_dev, status.st_ino)})


def open_vault(
    url: str | os.PathLike[str],
    credential: Credential,
    *,
    storage_options: Mapping[str, Any] | None,
    actor: Actor | None,
    read_only: bool,
    head: str | None,
    clock: Callable[[], datetime],
    state_dir: Path | None,
    gate: Gate | None = None,
    store: Store | None = None,
) -> Session:
    """
    Open a vault: header, ledger, slot, root.

    Raises:
        FormatError: There is no vault, or none of this library.
        CredentialError: The credential opens no slot.
        RollbackDetected: The store is behind what was seen before.
    """
    seam = StoreSeam(store or open_store(url, storage_options))
    where = redact_url(url)
    try:
        data = seam.get(names.HEADER)
    except NotFoundError:
        raise FormatError(f"there is no vault at {where}", kind="no_vault") from None
    header, raw, first = split_header(data)
    memory = LocalMemory(state_dir, header.vault_id)
    log = Log(seam, header, first, clock=clock, memory=memory)
    created = rec.parse_record(first, 0).facts()
    if created.header_hash != header_hash(raw):
        raise FormatError(f"the header of the vault at {where} was altered", kind="altered_header")
    try:
        chunker_params(header)
    except InputError as exc:
        raise FormatError(f"the header of the vault at {where} is out of bounds: {exc}") from exc
    log.load(head=None if head is None else Head.parse(head))
    unlocked = unlock(seam, log.state, header_hash(raw), credential)
    log.remember()
    roles = frozenset({"reader"} if read_only else rec.ALL_ROLES)
    log.signer = None if read_only else unlocked.root.signer(roles)
    keyring = Keyring(seam, unlocked.root, current=lambda: log.state, refresh=log.refresh)
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
        tuple(path.absolute() for path in getattr(credential, "paths", ())),
    )
    session.begin(Action.OPEN, actor or UNNAMED, Facts(actor=actor))
    return session
