"""Looking for a text in everything that a vault's remaining keys open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import field, frozen

from ..errors import InputError, LoopbackupError, NotFoundError
from ..vault.content.compress import decompress
from ..vault.content.segment import SegmentReader
from ..vault.format import codec, names, seal
from ..vault.format import record as rec
from ..vault.format.pack import CONTENT_KINDS
from ..vault.keys.domains import ERASED, Domain, DomainRecord, open_domain
from ..vault.keys.root import Root, unlock
from ..vault.keys.shards import Shard
from ..vault.vault import Vault
from ..vault.verbs.refold import refold
from ..vault.verbs.session import Session

__all__ = ["find_canary"]


def find_canary(
    vault: Vault, canary: str | bytes, *, places: Iterable[str | Path] = ()
) -> list[str]:
    """
    Search a vault for a text that nobody should be able to read any more.

    Looks at the bytes of every object in the store as they lie there, and at all
    that the keys at hand decrypt: keyring root and shards, bodies of the ledger,
    directories and index blocks, every chunk of every pack that still stands,
    condemned or not, lists of entries and snapshot tables among them. Keys at hand
    are those of every keyring in the store that the vault's credential still opens,
    current or not, whatever the ledger says of them.

    Args:
        vault: Open; the host's own tests give one of theirs.
        canary: What to look for: text, or bytes. Also found as hex and as UTF-16.
        places: Files and folders to search as well: the state folder, logs.

    Returns:
        Where it was found, ascending; empty when nowhere. A place is the name
        of an object or file, and what of it was decrypted.

    Raises:
        InputError: The canary is shorter than four bytes, and would be found by chance.

    Cost: reads the whole vault.
    """
    raw = canary.encode("utf-8", "surrogateescape") if isinstance(canary, str) else bytes(canary)
    if len(raw) < 4:
        raise InputError("a canary has at least four bytes")
    needles = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    if isinstance(canary, str):
        needles |= {canary.encode("utf-16-le", "surrogatepass")}
        needles |= {canary.encode("utf-16-be", "surrogatepass")}
    found: set[str] = set()
    for place, content in _everything(vault._session, places):
        if any(needle in content for needle in needles):
            found.add(place)
    return sorted(found)


def _everything(
    session: Session, places: Iterable[str | Path]
) -> Iterator[tuple[str, bytes | memoryview]]:
    session.log.refresh()
    yield from _memory(session)
    for place in places:
        yield from _files(Path(place))
    for entry in list(session.store.list("")):
        try:
            data = session.store.get_upto(entry.key, entry.size_bytes)
        except NotFoundError:
            continue
        yield entry.key, bytes(data)
    yield "keyring root", codec.encode(session.keyring.root)
    for number in session.log.state.shards:
        shard = session.keyring.shard(session.log.state, number)
        if shard is not None:
            yield f"keyring shard {number}", shard.payload
    roots = _roots(session)
    shards = list(_all_shards(session, roots))
    domains = _domains(session, shards)
    yield from shards
    yield from _bodies(session, domains)
    yield from _packs(session, domains)


@frozen
class _Epoch:
    """An epoch as its record has it: what unlocking its keyring takes."""

    vault_id: bytes
    authority: bytes
    epoch: bytes
    root: bytes
    salt: bytes
    slots: Sequence[tuple[bytes, str, bytes]]
    none_domain: bytes = b""
    fenced: Mapping[bytes, int] = field(factory=dict)
    shards: Mapping[int, bytes] = field(factory=dict)


def _roots(session: Session) -> list[Root]:
    """Give today's keyring root, and every older one that the credential still opens."""
    roots = [session.keyring.root]
    credential, header = session.credential, session.header
    for folded in refold(session) if credential is not None else ():
        facts = None if folded.record is None else folded.record.facts()
        if isinstance(facts, rec.EpochChanged):
            epoch, root = facts.epoch, facts.root
        elif isinstance(facts, rec.Created) and folded.record is not None:
            epoch, root = folded.record.frame.epoch, folded.record.frame.root
        else:
            continue
        found = _Epoch(header.vault_id, header.authority, epoch, root, facts.salt, facts.slots)
        assert credential is not None
        with suppress(LoopbackupError):
            digest = session.keyring.root.header_hash
            roots.append(unlock(session.store, found, digest, credential, trusted=True).root)
    return roots


def _all_shards(session: Session, roots: Sequence[Root]) -> Iterator[tuple[str, bytes]]:
    """Open every shard object in the store that a key of any root opens, current or not."""
    vault_id = session.header.vault_id
    for entry in list(session.store.list(names.SHARDS)):
        data = session.store.get_upto(entry.key, entry.size_bytes)
        number = int.from_bytes(data[8:12], "little")
        for key in {root.shard_key(number) for root in roots}:
            with suppress(LoopbackupError):
                opened = seal.open_sealed(key, seal.Kind.SHARD, vault_id, data, generation=number)
                yield f"{entry.key}, opened", opened


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    paths = sorted(place.rglob("*")) if place.is_dir() else [place]
    for path in paths:
        yield str(path), str(path).encode("utf-8", "surrogateescape")
        if path.is_file():
            yield str(path), path.read_bytes()


def _bodies(session: Session, domains: Mapping[bytes, Domain]) -> Iterator[tuple[str, bytes]]:
    """Open every body of every record that any key at hand opens."""
    for folded in refold(session):
        record = folded.record
        if record is None:
            continue
        for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
            if data is None:
                continue
            domain = domains.get(ref.ref) if ref.key == "domain" else None
            try:
                if domain is not None:
                    # Whatever the ledger says of it: only keys count.
                    kind, vault_id = seal.Kind.BODY, session.header.vault_id
                    opened = seal.open_sealed(domain.body_key, kind, vault_id, data)
                else:
                    opened = session.open_body(ref, data)
            except LoopbackupError:
                continue
            yield f"ledger {folded.index}, body {ref.key}", opened


def _packs(
    session: Session, domains: Mapping[bytes, Domain]
) -> Iterator[tuple[str, bytes | memoryview]]:
    for entry in list(session.store.list(names.PACKS)):
        short = b"p" + bytes.fromhex(entry.key.rsplit("/", 1)[-1])
        try:
            pack = session.index.pack(short)
        except LoopbackupError:
            continue
        for domain_id in pack.domains():
            if domain_id in domains:
                yield from _chunks(session, entry.key, pack, domains[domain_id])


def _domains(session: Session, shards: Iterable[tuple[str, bytes]]) -> dict[bytes, Domain]:
    """Give every domain of which a row can be opened, whatever the ledger says of it."""
    meta = session.keyring.meta
    found = {meta.id: meta}
    for _, payload in shards:
        for _, domain_id, encoded in Shard(payload).rows():
            record = codec.decode(encoded, DomainRecord)
            if record.status != ERASED:
                found[domain_id] = open_domain(session.header.vault_id, domain_id, record)
    return found


def _chunks(
    session: Session, key: str, pack: SegmentReader, domain: Domain
) -> Iterator[tuple[str, bytes | memoryview]]:
    try:
        rows = list(pack.rows(domain))
    except LoopbackupError:
        return
    for blob, _members in rows:
        try:
            data = session.store.get_upto(key, blob.length, start=blob.offset)
            # Not by the reader, which refuses what the ledger says is erased: only keys count.
            payload = domain.decrypt(
                data,
                generation=blob.generation,
                chunk_id=blob.id,
                codec=blob.codec,
                plain=blob.plain,
            )
            plain = decompress(blob.codec, payload, blob.plain)
        except LoopbackupError:
            continue
        yield f"{key}, {CONTENT_KINDS[blob.kind]}", plain


def _memory(session: Session) -> Iterator[tuple[str, bytes]]:
    """Give what this process keeps of contents between calls."""
    for content in (*session.reader.held(), *session.keyring.held()):
        yield "memory of this process", content
