"""What a vault holds of one subject, or of a tenant with all its people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from attrs import define, field, frozen

from ...errors import DamagedData, LoopbackupError, NotFoundError
from ...show import html, text
from ...terms import (
    Action,
    Actor,
    Facts,
    Hold,
    Overlay,
    Problem,
    Restriction,
    Subject,
    SubjectKey,
    show_subject,
)
from ..content.segment import places_of
from ..format.pack import CONTENT_KINDS
from ..keys.domains import RECORDS
from ..ledger.state import SnapshotRecord
from .held import marks_on
from .look import Described, describe, read_table
from .session import Session, to_datetime

__all__ = ["Held", "Holdings", "run_holdings"]


@frozen
class Held:
    """What one snapshot holds of a subject; ``size_bytes`` sums the entries' sizes."""

    snapshot: str
    name: str
    created_at: datetime
    entries: int
    size_bytes: int

    def __str__(self) -> str:
        when = f"{self.created_at:%Y-%m-%d %H:%M}"
        size = text.size(self.size_bytes)
        name = text.plain(self.name)
        return f"{self.snapshot[:8]}  {when}  {self.entries:>9,} entries  {size:>10}  {name}"


@frozen(repr=False)
class Holdings:
    """
    What a vault holds of a subject. False when that is nothing.

    Where ``ok`` is false, ``problems`` says what could not be looked into:
    there may be more.
    """

    subject: Subject
    snapshots: tuple[Held, ...]
    """Newest first."""
    subjects: int
    """How many subjects that is: a tenant's own and its children's."""
    distinct_bytes: int
    """Content, each chunk counted once."""
    stored_bytes: int
    """Bytes in packs under the subject's keys: compressed and encrypted, lists of entries
    included, and what waits to be pruned."""
    problems: tuple[Problem, ...] = ()
    holds: tuple[Hold, ...] = ()
    """Those in force that keep anything of it, by patterns included."""
    restrictions: tuple[Restriction, ...] = ()
    """Those that bind now."""
    overlays: tuple[Overlay, ...] = ()
    """What is shown in the place of what is stored; both are counted."""
    records: int = 0
    """Of how many subjects registers say something, which an erasure of the data leaves."""

    @property
    def ok(self) -> bool:
        """Whether everything could be looked into."""
        return not self.problems

    @property
    def first_seen(self) -> datetime | None:
        """When the oldest live snapshot that has anything was made; aware UTC."""
        return min((held.created_at for held in self.snapshots), default=None)

    @property
    def last_seen(self) -> datetime | None:
        """When the newest was made; aware UTC."""
        return max((held.created_at for held in self.snapshots), default=None)

    def __bool__(self) -> bool:
        return bool(self.snapshots or self.stored_bytes or self.records)

    def _sums(self) -> str:
        whose = f" of {self.subjects:,} subjects" if self.subjects > 1 else ""
        found = text.count(len(self.snapshots), "snapshot") + whose
        distinct, stored = text.size(self.distinct_bytes), text.size(self.stored_bytes)
        told = f", entries of registers about {self.records:,}" if self.records else ""
        return f"{found}, {distinct} distinct, {stored} stored{told}"

    def _marks(self) -> list[tuple[str, str]]:
        """Give what stands in words, without the reasons, which may name others."""
        found = [("hold", f"{h.id[:8]}, review {text.moment(h.review_at)}") for h in self.holds]
        for restriction in self.restrictions:
            until = restriction.until
            end = "lifted" if until is None else text.moment(until)
            found.append(("restriction", f"{restriction.id[:8]}, until {end}"))
        return found + [
            ("overlay", f"{o.id[:8]}, {text.size(o.size_bytes)}") for o in self.overlays
        ]

    def __str__(self) -> str:
        lines = [self._sums(), *(f"  {held}" for held in self.snapshots)]
        lines += [f"  {name}: {value}" for name, value in self._marks()]
        lines += [f"  problem: {problem}" for problem in self.problems]
        return text.lines(lines)

    def __repr__(self) -> str:
        return f"<Holdings of {self.subject!r}: {self._sums()}>"

    def _repr_html_(self) -> str:
        rows = [
            (
                held.snapshot[:8],
                held.name,
                text.moment(held.created_at),
                f"{held.entries:,}",
                text.size(held.size_bytes),
            )
            for held in self.snapshots[: html.MAX_ROWS]
        ]
        columns = ("Snapshot", "Series", "Made", "Entries>", "Size>")
        table = html.Table("in snapshots", columns, rows, len(self.snapshots))
        title = self.subject if isinstance(self.subject, str) else " / ".join(self.subject)
        facts = [("holds", self._sums()), *self._marks()]
        facts += [("problem", str(problem)) for problem in self.problems[:10]]
        return html.card(title, facts, *([table] if rows else []))


def run_holdings(session: Session, subject: SubjectKey, actor: Actor) -> Holdings:
    """
    Say what the live snapshots hold of a subject; a tenant's own covers its children.

    Raises:
        PolicyError: Refused.

    Cost: root and table of each snapshot that has anything of the subject, its
    part of the index, for a tenant all keyring shards; no content, and lists of
    entries only where there are holds by patterns.
    """
    session.begin(Action.READ, actor, Facts(actor=actor, subject=subject))
    session.looked(actor)
    return _Looker(session, subject).run()


@define
class _Looker:
    session: Session
    subject: SubjectKey
    problems: list[Problem] = field(factory=list)
    _whose: dict[bytes, bool] = field(factory=dict)
    """Domain id -> whether it is the subject's or, of a tenant, a child's."""

    def run(self) -> Holdings:
        own = self.session.keyring.find(self.subject)
        if own is not None:
            self._whose[own.id] = True
        held = []
        records = self.session.log.state.snapshots.values()
        for record in sorted(records, key=lambda r: r.index, reverse=True):
            try:
                found = self._held_in(record)
            except NotFoundError:
                continue  # Erased with its subject.
            except DamagedData as exc:
                self._trouble(exc, record)
                continue
            held += [] if found is None else [found]
        distinct, stored = self._sizes()
        shown = show_subject(self.subject)
        assert shown is not None
        return Holdings(
            shown,
            tuple(held),
            sum(self._whose.values()),
            distinct,
            stored,
            tuple(self.problems),
            *marks_on(self.session, self.subject),
            self._records(),
        )

    def _records(self) -> int:
        keyring = self.session.keyring
        if len(self.subject) == 1:
            return keyring.records_of(self.subject[0])
        return int(keyring.find(self.subject, RECORDS) is not None)

    def _trouble(self, exc: LoopbackupError, record: SnapshotRecord | None = None) -> None:
        ids = () if record is None else (record.id.hex(),)
        found = exc.context.get("object")
        self.problems.append(Problem("damaged", str(exc), object=found, snapshots=ids))

    def _held_in(self, record: SnapshotRecord) -> Held | None:
        wanted = [domain_id for domain_id in self._domains(record) if self._is_wanted(domain_id)]
        if not wanted:
            return None
        described: Described = describe(self.session, record)
        table = read_table(self.session, record)
        rows = [row for domain_id in wanted if (row := table.find(domain_id)) is not None]
        return Held(
            described.id,
            described.body.name,
            to_datetime(described.body.created_us),
            sum(row.entries for row in rows),
            sum(row.size for row in rows),
        )

    def _domains(self, record: SnapshotRecord) -> Iterator[bytes]:
        ids = record.domains
        if record.domains_list:
            ids = self.session.log.fetch_list(record.domains_list)
        for at in range(0, len(ids), 16):
            yield ids[at : at + 16]

    def _is_wanted(self, domain_id: bytes) -> bool:
        known = self._whose.get(domain_id)
        if known is None:
            # A person's own domain is known already; only a tenant has others.
            known = len(self.subject) == 1 and self._is_child(domain_id)
            self._whose[domain_id] = known
        return known

    def _is_child(self, domain_id: bytes) -> bool:
        try:
            subject = self.session.keyring.by_id(domain_id).subject
        except NotFoundError:
            return False
        return subject is not None and len(subject) == 2 and subject[:1] == self.subject

    def _sizes(self) -> tuple[int, int]:
        """Give the distinct bytes of content and the bytes in packs, from the index alone."""
        distinct = stored = 0
        if len(self.subject) == 1:
            self._find_forgotten()
        for domain_id in [domain_id for domain_id, wanted in self._whose.items() if wanted]:
            try:
                more, packed = self._sizes_of(domain_id)
            except (DamagedData, NotFoundError) as exc:
                self._trouble(exc)
                continue
            distinct, stored = distinct + more, stored + packed
        return distinct, stored

    def _find_forgotten(self) -> None:
        """Look for children of whom only what waits to be pruned is left."""
        for domain_id in self.session.index.domain_ids(self.session.log.state):
            try:
                self._is_wanted(domain_id)
            except DamagedData as exc:
                self._trouble(exc)

    def _sizes_of(self, domain_id: bytes) -> tuple[int, int]:
        session = self.session
        state = session.log.state
        domain = session.keyring.by_id(domain_id)
        session.index.mend(domain, state)
        distinct = stored = 0
        seen: set[bytes] = set()
        for reader in session.index.segments(state):
            for blob, members in reader.rows(domain):
                if blob.pack in state.condemned:
                    continue
                stored += blob.length
                if CONTENT_KINDS[blob.kind] not in ("data", "bundle"):
                    continue
                for chunk_id, place in places_of(blob, members):
                    if chunk_id not in seen:
                        seen.add(chunk_id)
                        distinct += place.length
        return distinct, stored
