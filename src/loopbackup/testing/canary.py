"""Looking for a text in everything that a vault's remaining keys open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import InputError, LoopbackupError, NotFoundError
from ..vault.content.segment import SegmentReader
from ..vault.format import codec, names
from ..vault.format.pack import CONTENT_KINDS
from ..vault.vault import Vault
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
    condemned or not, lists of entries and snapshot tables among them.

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
    yield from _bodies(session)
    yield from _packs(session)
    yield from _memory(session)


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    paths = sorted(place.rglob("*")) if place.is_dir() else [place]
    for path in paths:
        yield str(path), str(path).encode("utf-8", "surrogateescape")
        if path.is_file():
            yield str(path), path.read_bytes()


def _bodies(session: Session) -> Iterator[tuple[str, bytes]]:
    """Open every body of every record that any key at hand opens."""
    from ..vault.verbs.refold import refold

    for folded in refold(session):
        record = folded.record
        if record is None:
            continue
        for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
            if data is None:
                continue
            try:
                yield f"ledger {folded.index}, body {ref.key}", session.open_body(ref, data)
            except LoopbackupError:
                continue


def _packs(session: Session) -> Iterator[tuple[str, bytes | memoryview]]:
    for entry in list(session.store.list(names.PACKS)):
        short = b"p" + bytes.fromhex(entry.key.rsplit("/", 1)[-1])
        try:
            pack = session.index.pack(short)
        except LoopbackupError:
            continue
        for domain_id in pack.domains():
            yield from _chunks(session, entry.key, pack, domain_id)


def _chunks(
    session: Session, key: str, pack: SegmentReader, domain_id: bytes
) -> Iterator[tuple[str, bytes | memoryview]]:
    meta = session.keyring.meta
    try:
        domain = meta if domain_id == meta.id else session.keyring.by_id(domain_id)
    except LoopbackupError:
        return
    for blob, _members in pack.rows(domain):
        try:
            plain = session.reader.read_blob(domain, blob)
        except LoopbackupError:
            continue
        yield f"{key}, {CONTENT_KINDS[blob.kind]}", plain


def _memory(session: Session) -> Iterator[tuple[str, bytes]]:
    """Give what this process keeps of contents between calls."""
    for content in session.reader.held():
        yield "memory of this process", content
