"""The ledger in the hands of a user: verify it, read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from ..errors import DamagedData, InputError, NotFoundError
from ..terms import Action, Actor, Facts, Past, Place, Subject, SubjectKey, subject_key
from .format import codec
from .format import record as rec
from .format.markfacts import HoldBody, NoteBody, OverlayBody
from .keys.domains import DATA, RECORDS
from .verbs.fences import erased_error
from .verbs.refold import Cursor, Folded, fold_again, refold, refold_from
from .verbs.session import AuditBody, Session, to_datetime

if TYPE_CHECKING:
    from .marking import Appended

__all__ = ["Ledger", "LedgerEntry", "past_of"]

_BODIES: Final[Mapping[type, Any]] = {
    rec.Held: HoldBody,
    rec.Released: NoteBody,
    rec.Restricted: NoteBody,
    rec.Lifted: NoteBody,
    rec.Overlaid: OverlayBody,
}
"""What a mark's own body is; each says why."""


@frozen
class LedgerEntry:
    """
    One record as a person reads it.

    ``actor`` and ``reason`` are None where the sealed part can no longer be
    opened; ``kind`` is ``"void"`` for a record without effect. ``at`` is None
    for that, and for a writer whose clock was out of all bounds. Events of
    registers have the kind that they were appended with.
    """

    index: int
    kind: str
    at: datetime | None
    writer: str = ""
    actor: str | None = None
    action: str | None = None
    reason: str | None = None
    facts: Mapping[str, Any] = field(factory=dict)
    roles: tuple[str, ...] = ()
    purpose: str | None = None
    payload: bytes | None = None
    """Of an event of a register: what was appended; None where its keys are gone."""
    policy: str | None = None
    """Digest of the policy that was asked: ``"none"``, or ``"override of ..."``."""
    details: Mapping[str, str] = field(factory=dict)
    """What else was written down: of a retention, why each snapshot went."""

    def __str__(self) -> str:
        when = f"{self.at:%Y-%m-%d %H:%M:%S}" if self.at else "-"
        who = f" by {self.actor}" if self.actor else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.index:>6}  {when}  {self.kind}{who}{why}"


class Ledger:
    """Every change of state of a vault, in one total order."""

    def __init__(self, session: Session, actor: Actor) -> None:
        self._session = session
        self._actor = actor

    def __len__(self) -> int:
        return self._session.log.state.size

    def verify(self) -> None:
        """
        Fold the whole ledger from its first record, signatures and tree included.

        Raises:
            DamagedData: A record is missing, altered, or does not follow.

        Cost: one request and one Ed25519 verification (0.1 ms) a record.
        """
        self._session.begin(Action.AUDIT, self._actor)
        fold_again(self._session, self._session.log.folded)

    def append(self, kind: str, payload: Appended, *, subject: Subject | None = None) -> str:
        """
        Append a mark that every program obeys, or an event of a register.

        Args:
            kind: ``"restriction"`` (GDPR Art. 18): *payload* has ``reason``, and
                ``until`` (an aware datetime) if it shall end by itself; with
                ``lifts``, the id of a restriction, that one ends instead.
                ``"overlay"`` (Art. 16): ``path``, ``replacement`` (bytes),
                ``snapshots`` (``"all"`` that there are now, or a list of ids),
                ``reason`` if there is one. ``"register.<name>"``: an opaque
                event; the name stands in clear, so it must say nothing of anybody.
            payload: A mapping, or bytes: of JSON for marks, of anything for
                registers, whose mappings are stored as JSON.
            subject: Whom it is about; needed for marks, which are sealed under the
                subject's keys and die with them. An event of a register is sealed
                under the keys of the subject's records, which an erasure of the data
                leaves alone (:meth:`Vault.erase_subjects`), also of somebody
                who was erased; without subject, under the audit key of the month.

        Returns:
            The id of the mark or event, 32 hex digits.

        Raises:
            InputError: Anything else is appended, or out of bounds.
            NotFoundError: There is no such restriction, snapshot or entry.
            PolicyError: Refused.

        Cost: one record; for a new subject one more; for an overlay its bytes.
        """
        from .marking import append

        return append(self._session, self._actor, kind, payload, subject)

    def entries(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        subject: Subject | None = None,
        cursor: Cursor | None = None,
    ) -> Iterator[LedgerEntry]:
        """
        Yield records, oldest first, each verified as :meth:`verify` does before it comes.

        Args:
            since: Only from this aware instant on, by the writers' clocks.
            until: Only up to this aware instant, itself included.
            subject: Only records that name this subject's domains. Of one whose data
                were erased, what registers say is still there.
            cursor: Only what came since it was last given here; a new one has read
                nothing yet. It moves with each record that the iterator passes.

        Void records have no time that anybody vouches for: they come unless a
        *subject* is asked for.

        Raises:
            InputError: A time without zone, no subject, or a cursor of another vault.
            NotFoundError: The vault knows nothing of the subject; kind "erased": any more.
            PolicyError: Refused.
            DamagedData: From the iterator, where a record is missing or altered;
                what came before it is as signed. At its end: the history is
                another than the one in use.

        Cost: as :meth:`verify`, whatever is asked for; with a cursor of the records
            that it has not passed, and the memory of a fold for as long as it lives.
        """
        first, last = _instant("since", since), _instant("until", until)
        key = None if subject is None else subject_key(subject)
        self._session.begin(Action.AUDIT, self._actor)
        domains = None if key is None else self._domains_of(key)
        again = refold(self._session) if cursor is None else refold_from(self._session, cursor)
        return self._entries(again, first, last, domains)

    def _entries(
        self,
        again: Iterator[Folded],
        first: datetime | None,
        last: datetime | None,
        domains: frozenset[bytes] | None,
    ) -> Iterator[LedgerEntry]:
        for folded in again:
            entry = self._entry(folded, domains)
            if entry is None:
                continue
            early = first is not None and entry.at is not None and entry.at < first
            late = last is not None and entry.at is not None and entry.at > last
            if not early and not late:
                yield entry

    def _domains_of(self, subject: SubjectKey) -> frozenset[bytes]:
        keyring = self._session.keyring
        found = (keyring.find(subject, status) for status in (DATA, RECORDS))
        domains = frozenset(domain.id for domain in found if domain is not None)
        if not domains:
            unknown = NotFoundError("the vault knows nothing of that subject", kind="subject")
            raise erased_error(self._session, subject) or unknown
        return domains

    def _entry(self, folded: Folded, domains: frozenset[bytes] | None) -> LedgerEntry | None:
        record = folded.record
        if record is None:
            void = LedgerEntry(folded.index, "void", None, reason=folded.void)
            return void if domains is None else None
        facts = record.facts()
        if domains is not None and not _names(self._session, record, facts, domains):
            return None
        audit = self._audit(record)
        payload, note = self._own_body(record, facts)
        shown = {
            name: value.hex() if isinstance(value, bytes) else value
            for name in facts.__struct_fields__
            if isinstance(value := getattr(facts, name), bytes | str | int | float | None)
        }
        frame = record.frame
        return LedgerEntry(
            folded.index,
            f"register.{facts.name}" if isinstance(facts, rec.Registered) else frame.kind,
            _moment(frame.at_us),
            frame.writer.hex(),
            audit.actor if audit else None,
            audit.action if audit else None,
            note or (audit.reason if audit else None),
            shown,
            tuple(audit.roles) if audit else (),
            audit.purpose if audit else None,
            payload,
            audit.policy if audit else None,
            audit.details if audit else {},
        )

    def _own_body(self, record: rec.Record, facts: rec.Facts) -> tuple[bytes | None, str | None]:
        """Give an event's payload, and why a mark was set or ended, where their keys are there."""
        type_ = _BODIES.get(type(facts))
        is_event = isinstance(facts, rec.Registered)
        if (type_ is None and not is_event) or not record.frame.bodies:
            return None, None
        ref, data = record.frame.bodies[0], record.bodies[0]
        if data is None:
            return None, None
        try:
            payload = self._session.open_body(ref, data)
            return (payload, None) if type_ is None else (None, codec.decode(payload, type_).reason)
        except (NotFoundError, DamagedData):
            return None, None

    def _audit(self, record: rec.Record) -> AuditBody | None:
        # The last one: an event about nobody is sealed under the same key.
        for ref, data in reversed([*zip(record.frame.bodies, record.bodies, strict=True)]):
            if ref.key == "audit" and data is not None:
                try:
                    return codec.decode(self._session.open_body(ref, data), AuditBody)
                except (NotFoundError, DamagedData):
                    return None
        return None


def past_of(entry: LedgerEntry, place: Place) -> Past:
    """Give what a record tells as a question that a policy can be asked; today's place."""
    assert entry.action is not None
    assert entry.at is not None
    actor = Actor(entry.actor, roles=entry.roles, purpose=entry.purpose) if entry.actor else None
    # Audits name who agreed, and not with which roles; snapshots may be gone with their names.
    unknown = ("snapshots", "approved_by") if "approved_by" in entry.details else ("snapshots",)
    facts = Facts(actor=actor, reason=entry.reason, places=(place,), unknown=unknown)
    return Past(entry.action, facts, entry.at, allowed=entry.kind != "refused")


def _instant(what: str, moment: object) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InputError(f"{what} is a datetime with a zone: datetime(..., tzinfo=UTC)")
    return moment


def _moment(at_us: int) -> datetime | None:
    """Give a writer's time; None where its clock was out of all bounds."""
    try:
        return to_datetime(at_us)
    except OverflowError:
        return None


def _names(
    session: Session, record: rec.Record, facts: rec.Facts, domains: frozenset[bytes]
) -> bool:
    """Tell whether a record's clear part names any of the domains."""
    if any(ref.key == "domain" and ref.ref in domains for ref in record.frame.bodies):
        return True
    ids, listed = b"", b""
    if isinstance(facts, rec.SnapshotCommitted):
        ids, listed = facts.domains, facts.domains_list
    elif isinstance(facts, rec.DomainsAdded):
        ids, listed = facts.added, facts.added_list
    if listed:
        ids = session.log.fetch_list(listed)
    return any(ids[at : at + 16] in domains for at in range(0, len(ids), 16))
