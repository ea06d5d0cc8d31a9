"""
Reading a source into a run: what is new is uploaded, what is known is named.

One pass over the source; the caller's thread walks, reads, cuts and hashes,
the upload's workers do the rest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec
from attrs import define, evolve, field

from ...errors import DamagedData, LoopbackupError, NotFoundError
from ...progress import Reporter
from ...terms import Problem, SubjectKey
from ..content.chunker import Chunker
from ..content.sorter import EntrySorter
from ..content.streams import StreamWriter, TableWriter, content_ids
from ..content.upload import Upload
from ..format.entries import FILE, ITEM, PROBLEM, Extra, Node, tree_order
from ..keys.credentials import KEYFILE_BYTES, holds_key
from ..keys.domains import Domain
from ..source.base import Found, Reader, ScanProblem, Source
from ..source.sparse import cut_extents
from ..source.streams import reason_of
from .domains import ensure_domains
from .parent import Parent
from .same_inode import SameInodes, take_content
from .session import Session, chunker_params

__all__ = ["Collected", "Collector", "Parent"]

READ_AHEAD: Final = 4096
READ_AHEAD_BYTES: Final = 16 << 20
BUFFER_BYTES: Final = 8 << 20
MAX_CURSORS: Final = 512
LISTED_IDS: Final = 8192
"""A file of more chunks (4 GiB on average) has their ids in chunks of their own."""
_encoder: Final = msgspec.msgpack.Encoder()


@define
class Collected:
    """What one pass over a source came to."""

    problems: list[Problem] = field(factory=list)
    seen: int = 0
    """What the source gave, whatever became of it."""
    files: int = 0
    unchanged: int = 0
    bytes_read: int = 0
    without_subject: int = 0
    uncounted: Counter[bytes] = field(factory=Counter)
    """By domain id: entries of its list that are not among ``files``, duplicates taken off."""

    def leave_out(self, domain_id: bytes, entries: int) -> None:
        """Count no longer what was taken of somebody who was erased since."""
        self.files -= entries - self.uncounted.pop(domain_id, 0)


class Collector:
    """Reads one source into one upload."""

    def __init__(
        self,
        session: Session,
        upload: Upload,
        source: Source,
        *,
        parent: Parent | None,
        solid: bool,
        dynamic: bool,
        dry_run: bool,
        reporter: Reporter,
    ) -> None:
        header = session.header
        self._session = session
        self._upload = upload
        self._source = source
        self._parent = parent
        self._solid = solid
        self._dynamic = dynamic
        self._dry_run = dry_run
        self._reporter = reporter
        self._params = chunker_params(header)
        self._small = header.chunk_min
        self._buffer = bytearray(max(BUFFER_BYTES, 2 * header.chunk_max))
        self._chunkers: OrderedDict[bytes, Chunker] = OrderedDict()
        self._domains: dict[SubjectKey | None, Domain] = {}
        self._erased: set[SubjectKey | None] = set()
        self._fenced = session.log.state.fenced
        # Of a dry run: nobody else can find what is stored nowhere.
        self._imagined: dict[SubjectKey | None, Domain] = {}
        self._imagined_ids: dict[bytes, Domain] = {}
        self._same_inodes = SameInodes()
        self._writers: dict[bytes, StreamWriter] = {}
        self._sorter = None if source.in_order else EntrySorter()
        self.table = TableWriter(session.keyring.meta, upload)
        self.result = Collected()

    def run(self) -> Collected:
        """
        Read everything; afterwards ``table`` holds the snapshot's domains.

        Errors of single entries are collected; errors of the store, of a
        generator, and interrupts go through.
        """
        try:
            for batch in self._batches():
                self.result.seen += len(batch)
                self._enrol(batch)
                if self._sorter is not None:
                    # Entries are sorted later anyway; looked up domain by domain,
                    # what is known of them is read in the order in which it lies.
                    batch[:] = [found for found in batch if not self._is_erased(found)]
                    batch.sort(key=lambda found: self._domains[found.subject].id)
                for found in batch:
                    self._take(found)
            self._drain_sorter()
        finally:
            self._source.close()
            if self._sorter is not None:
                self._sorter.close()
        for domain_id in sorted(self._writers):
            self.table.add(self._writers[domain_id].finish())
        return self.result

    # ---- domains first

    def _batches(self) -> Iterator[list[Found | ScanProblem]]:
        """Read ahead where the source allows it, so that new subjects come in batches."""
        if not self._source.opens_later:
            if self._dynamic:
                self._enrol_all()
            yield from ([found] for found in self._source.scan())
            return
        batch: list[Found | ScanProblem] = []
        held = 0
        for found in self._source.scan():
            batch.append(found)
            held += found.held_bytes if isinstance(found, Found) else 0
            if len(batch) >= READ_AHEAD or held >= READ_AHEAD_BYTES:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _enrol_all(self) -> None:
        """Walk once for the subjects alone: one record for thousands, not one for each."""
        new: set[SubjectKey | None] = set()
        for found in self._source.scan():
            if found.subject not in self._domains:
                new.add(found.subject)
            if len(new) >= READ_AHEAD:
                self._ensure(new)
                new = set()
        self._ensure(new)

    def _enrol(self, batch: list[Found | ScanProblem]) -> None:
        if len(batch) == 1:
            subject = batch[0].subject
            if subject not in self._domains and subject not in self._erased:
                self._ensure({subject})
            return
        self._domains.clear()
        self._ensure({found.subject for found in batch})

    def _ensure(self, subjects: set[SubjectKey | None]) -> None:
        session = self._session
        if self._dry_run:
            imagined = session.keyring.imagine(subjects - self._imagined.keys())
            self._imagined.update(imagined)
            self._imagined_ids.update((domain.id, domain) for domain in imagined.values())
            self._domains.update((subject, self._imagined[subject]) for subject in subjects)
            return
        found = ensure_domains(
            session.store, session.log, session.keyring, subjects, self._upload.new_domains
        )
        self._domains.update(found)
        self._erased.update(subjects - found.keys())

    # ---- one entry

    def _is_erased(self, found: Found | ScanProblem) -> bool:
        """Leave out, and report, what is about somebody who was erased."""
        if found.subject not in self._erased:
            return False
        path = found.path if isinstance(found, ScanProblem) else found.node.path
        self._problem("erased", "it belongs to a subject that was erased", path)
        return True

    def _drop_erased(self) -> None:
        """Take nothing more of those who were erased since; whoever commits tells of the rest."""
        fenced = self._session.log.state.fenced
        if fenced is self._fenced:
            return
        self._fenced = fenced
        gone = [whose for whose, domain in self._domains.items() if domain.id in fenced]
        for subject in gone:
            del self._domains[subject]
        self._erased.update(gone)

    def _take(self, found: Found | ScanProblem) -> None:
        self._drop_erased()
        if self._is_erased(found):
            return
        domain = self._domains[found.subject]
        if isinstance(found, ScanProblem):
            self._problem(found.kind, found.message, found.path)
            if not found.in_tree:
                node = Node(found.path, PROBLEM, extra=Extra(problem=found.kind))
                self.result.uncounted[domain.id] += 1
                self._write(domain, node)
            return
        if found.no_subject is not None:
            self.result.without_subject += 1
            if found.no_subject != "unmatched":
                self._problem("no_subject", "its path names no valid subject", found.node.path)
        node = found.node
        if node.kind in (FILE, ITEM):
            found = self._content(domain, found)
            node = found.node
        if found.problem is not None:
            self._problem(found.problem.kind, found.problem.message, node.path)
        self.result.files += 1
        self._reporter.advance(files=1)
        self._write(domain, node)

    def _content(self, domain: Domain, found: Found) -> Found:
        """Give the entry with its content: taken over, or read once or twice."""
        known = None if self._parent is None else self._parent.unchanged(domain, found)
        if known is not None and not self._stored(domain, known):
            known = None
        if known is not None:
            self.result.unchanged += 1
        elif found.links > 1:
            known = self._same_inodes.find(domain, found)
        if known is not None:
            take_content(found.node, known)
        else:
            found = self._read_or_mark(domain, found)
        if found.links > 1:
            self._same_inodes.note(domain, found)
        return found

    def _read_or_mark(self, domain: Domain, found: Found) -> Found:
        path = found.node.path
        try:
            wrong = self._read(domain, found)
            if wrong == "changed":
                found = self._source.refresh(found)
                wrong = self._read(domain, found)
        except LoopbackupError:
            raise
        except OSError as exc:
            kind = "vanished" if isinstance(exc, FileNotFoundError) else "unreadable"
            self._problem(kind, reason_of(exc), path)
            return _without(found, kind)
        if wrong == "credential":
            self._problem(wrong, "it is a key file, which no backup stores", path)
            return _without(found, wrong)
        if wrong is not None:
            self._problem(wrong, "it changed while it was read, twice", path)
            found.node.extra = found.node.extra or Extra()
            found.node.extra.problem = wrong
        return found

    def _stored(self, domain: Domain, known: Node) -> bool:
        """Tell whether all content of an entry has places that last; rely on them if so."""
        chunk_ids = known.chunk_ids()
        # Most files are one chunk, for which a list of packs would be a detour.
        if len(chunk_ids) == 1:
            if not self._upload.has(domain, chunk_ids[0]):
                return False
        elif not self._upload.has_all(domain, chunk_ids):
            return False
        if known.extra is None or not known.extra.listed:
            return True
        try:
            ids = content_ids(known, domain, self._session.reader)
            while some := list(islice(ids, LISTED_IDS)):
                if not self._upload.has_all(domain, some):
                    return False
            return True
        except DamagedData:
            return False

    def _read(self, domain: Domain, found: Found) -> str | None:
        """Read the content into chunks; say what is wrong with it."""
        node = found.node
        if node.kind == FILE and 0 < node.size <= self._small:
            data = self._source.read(found)
            if data is not None:
                return self._take_small(domain, node, data)
        with self._source.open(found) as reader:
            extents = None if node.extra is None else node.extra.extents
            ahead = node.size if extents is None else sum(length for _, length in extents)
            view = memoryview(self._buffer)
            # A file of the size that the scan saw is at its end; if it has grown
            # since, ``changed`` says so.
            whole = ahead if node.kind == FILE and 0 < ahead <= self._small else -1
            filled = _fill(reader, view[: max(self._small, KEYFILE_BYTES) + 1], enough=whole)
            if holds_key(view[:filled]):
                return "credential"
            if filled <= self._small:
                count = filled
                node.chunks = self._store_small(domain, node.uid, bytes(view[:filled]))
                self._reporter.advance(size_bytes=filled)
            else:
                ids, count = self._store_large(domain, reader, filled)
                self._name_chunks(domain, node, ids)
            if extents is None or node.extra is None:
                node.size = count
            else:
                node.extra.extents = cut_extents(extents, count)
            self.result.bytes_read += count
            return "changed" if reader.changed() else None

    def _take_small(self, domain: Domain, node: Node, data: bytes) -> str | None:
        """Store the whole content of a small file; say what is wrong with it."""
        if holds_key(data):
            return "credential"
        node.chunks = self._store_small(domain, node.uid, data)
        self._reporter.advance(size_bytes=len(data))
        self.result.bytes_read += len(data)
        return None

    def _store_small(self, domain: Domain, group: int, data: bytes) -> bytes:
        if not data:
            return b""
        chunk_id = domain.chunk_id(data)
        if not self._upload.has(domain, chunk_id):
            if self._solid:
                self._upload.put_small(domain, group, chunk_id, data)
            else:
                self._upload.put(domain, chunk_id, data)
        return chunk_id

    def _name_chunks(self, domain: Domain, node: Node, ids: list[bytes]) -> None:
        """Put the ids into the entry, or into chunks of their own where they are many."""
        if len(ids) > LISTED_IDS:
            lists = []
            for at in range(0, len(ids), LISTED_IDS):
                data = b"".join(ids[at : at + LISTED_IDS])
                lists.append(domain.chunk_id(data, "ids"))
                if not self._upload.has(domain, lists[-1]):
                    self._upload.put(domain, lists[-1], data, "ids")
            ids = lists
            node.extra = node.extra or Extra()
            node.extra.listed = True
        node.chunks = b"".join(ids)

    def _store_large(self, domain: Domain, reader: Reader, filled: int) -> tuple[list[bytes], int]:
        chunker = self._chunker(domain)
        view = memoryview(self._buffer)
        ids, total, final = [], 0, False
        while not final:
            got = _fill(reader, view[filled:])
            final = filled + got < len(view)
            filled += got
            start = 0
            for end in chunker.cut(view[:filled], final=final):
                piece = view[start:end]
                chunk_id = domain.chunk_id(piece)
                ids.append(chunk_id)
                if not self._upload.has(domain, chunk_id):
                    self._upload.put(domain, chunk_id, bytes(piece))
                start = end
            total += start
            self._reporter.advance(size_bytes=start)
            rest = filled - start
            view[:rest] = bytes(view[start:filled])
            filled = rest
        return ids, total

    def _chunker(self, domain: Domain) -> Chunker:
        chunker = self._chunkers.get(domain.id)
        if chunker is None:
            chunker = self._chunkers[domain.id] = Chunker(domain.chunker_key, self._params)
            while len(self._chunkers) > MAX_CURSORS:
                self._chunkers.popitem(last=False)
        return chunker

    # ---- entries out

    def _write(self, domain: Domain, node: Node) -> None:
        encoded = _encoder.encode(node)
        if self._sorter is None:
            self._add(self._writer(domain), node.path, encoded, node.size)
            return
        self._sorter.add(domain.id, tree_order(node.path), encoded, node.size)

    def _add(self, writer: StreamWriter, path: bytes, encoded: bytes, size: int) -> None:
        """Append an entry; of two with one path the first counts."""
        if not writer.add(path, encoded, size):
            self.result.uncounted[writer.domain.id] -= 1
            self._problem("duplicate", "an item of the same path came earlier", path)

    def _writer(self, domain: Domain) -> StreamWriter:
        writer = self._writers.get(domain.id)
        if writer is None:
            writer = self._writers[domain.id] = StreamWriter(domain, self._upload)
        return writer

    def _drain_sorter(self) -> None:
        """Write streams domain by domain."""
        if self._sorter is None:
            return
        last = b""
        writer = None
        left_out: Counter[bytes] = Counter()
        for domain_id, key, _arrival, encoded, size in self._sorter:
            path = key.replace(b"\0", b"/")
            if domain_id != last:
                if writer is not None:
                    self.table.add(writer.finish())
                domain = self._known(domain_id)
                writer = None if domain is None else StreamWriter(domain, self._upload)
                last = domain_id
            if writer is None:
                self._problem("erased", "it belongs to a subject that was just erased", path)
                left_out[domain_id] += 1
            else:
                self._add(writer, path, encoded, size)
        if writer is not None:
            self.table.add(writer.finish())
        for domain_id, entries in left_out.items():
            self.result.leave_out(domain_id, entries)

    def _known(self, domain_id: bytes) -> Domain | None:
        """Give a domain of this run; None if it was erased since."""
        imagined = self._imagined_ids.get(domain_id)
        if imagined is not None:
            return imagined
        try:
            return self._session.keyring.by_id(domain_id)
        except NotFoundError:
            if domain_id in self._session.log.state.fenced:
                return None
            raise

    def _problem(self, kind: str, message: str, path: bytes) -> None:
        self.result.problems.append(Problem(kind, message, path))


def _fill(reader: Reader, view: memoryview, *, enough: int = -1) -> int:
    """Read until *view* is full, the content ends, or exactly *enough* bytes came."""
    filled = 0
    while filled < len(view) and filled != enough:
        got = reader.readinto(view[filled:])
        if not got:
            break
        filled += got
    return filled


def _without(found: Found, kind: str) -> Found:
    """Give what stands in the snapshot for an entry that is not stored."""
    node = Node(found.node.path, PROBLEM, extra=Extra(problem=kind))
    return evolve(found, node=node, problem=None, links=1)
