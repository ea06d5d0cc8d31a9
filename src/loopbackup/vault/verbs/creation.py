"""Creating a vault: keys first, then the header, then record 0."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ...errors import AlreadyExistsError, FormatError, InputError
from ...terms import Actor, StoredGate
from ..format import codec, names
from ..format import record as rec
from ..format.header import (
    MAX_GRACE_S,
    Header,
    StoreMark,
    header_hash,
    join_header,
    sign_store,
    split_header,
)
from ..format.policyfacts import PolicyBody
from ..format.seal import FORMAT, SUITE
from ..keys.credentials import Credential
from ..keys.epoch import certify_house
from ..keys.keyring import first_shard
from ..keys.kms import Kms, as_credential
from ..keys.root import Root, encode_root, new_root
from ..keys.slots import SlotContext, encode_slot, make_slot
from ..ledger.places import Pin, Places
from ..ledger.tree import Tree
from ..store.local import LocalStore
from ..store.probe import PROBES, probe_exclusive_create
from ..store.protocol import Store
from ..store.registry import open_store, redact_url
from ..store.seam import StoreSeam
from .gates import body_of
from .hosting import aware_clock, place_of
from .locate import check_declared, declared_text, observed_in, told_place
from .policies import ask_create, seal_policy
from .session import chunker_params

__all__ = ["create_vault"]


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
    policy: StoredGate | None = None,
    actor: Actor | None = None,
) -> None:
    """
    Write a new vault: keys first, then the header, then record 0.

    Of its policy nothing but the provider is asked before it has allowed the place.

    Raises:
        PolicyError: The policy refuses the place, or could not be loaded again.
        AlreadyExistsError: A vault stands there, or anything else.
        InputError: The store does not create exclusively, an argument is of the
            wrong type or out of bounds, or the state directory cannot be made.
        StoreError: The place may not be written to.
    """
    credential = as_credential(key)
    _check_terms(grace_s, single_writer)
    declared_text(location)
    kept = None if policy is None else body_of(policy)
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
        if policy is not None:
            place = told_place(info, location, where, clock())
            ask_create(policy, actor, credential, place, clock())
        check_declared("create", where, info, location, clock())
        if _is_taken(seam):
            raise AlreadyExistsError(f"create refused: {where} is not empty; nothing was changed")
        if not single_writer and not (info.exclusive_create and probe_exclusive_create(seam)):
            raise InputError(
                f"create refused: {where} does not keep to exclusive create, so two writers could "
                "undo each other. single_writer=True takes that duty upon you"
            )
        raw = codec.encode(header)
        root = new_root(header.vault_id, header_hash(raw), authority.private_bytes_raw())
        known = (location, observed_in(info))
        record = _write_keys(seam, header, root, credential, known, kept)
        mark = sign_store(header.vault_id, header.vault_id, authority)
        seam.put(names.HEADER, join_header(header, mark, record))
        seam.put(names.record_name(0), record)
    finally:
        if store is None:
            seam.close()
    places.keep(place_of(where, seam.store), Pin(header.vault_id, header.authority))


def _check_terms(grace_s: object, single_writer: object) -> None:
    if not isinstance(single_writer, bool):
        raise InputError("single_writer is True or False")
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
    policy: PolicyBody | None,
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
        policy is not None,
    )
    refs, bodies = seal_policy(root, policy)
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
        refs,
        msgspec.Raw(codec.encode(facts)),
    )
    house = Ed25519PrivateKey.from_private_bytes(root.house_key)
    return rec.encode_record(frame, bodies, vault_id=header.vault_id, key=house)
