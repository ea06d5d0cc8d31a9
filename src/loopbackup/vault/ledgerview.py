"""The ledger in the hands of a user: verify it, read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from ..errors import DamagedData, InputError, NotFoundError
from ..terms import Action, Actor, Subject, SubjectKey, subject_key
from .format import codec
from .format import record as rec
from .verbs.refold import Folded, fold_again, refold
from .verbs.session import AuditBody, Session, to_datetime

__all__ = ["Ledger", "LedgerEntry"]


@frozen
class LedgerEntry:
    """
    One record as a person reads it.

    ``actor`` and ``reason`` are None where the sealed part can no longer be
    opened; ``kind`` is ``"void"`` for a record without effect. ``at`` is None
    for that, and for a writer whose clock was out of all bounds.
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
        fold_again(self._session, self._session.log.state)

    def entries(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        subject: Subject | None = None,
    ) -> Iterator[LedgerEntry]:
        """
        Yield records, oldest first, each verified as :meth:`verify` does before it comes.

        Args:
            since: Only from this aware instant on, by the writers' clocks.
            until: Only up to this aware instant, itself included.
            subject: Only records that name this subject's domain.

        Void records have no time that anybody vouches for: they come unless a
        *subject* is asked for.

        Raises:
            InputError: A time without zone, or no subject.
            NotFoundError: The vault knows nothing of the subject.
            PolicyError: Refused.
            DamagedData: From the iterator, where a record is missing or altered;
                what came before it is as signed. At its end: the history is
                another than the one in use.

        Cost: as :meth:`verify`, whatever is asked for.
        """
        first, last = _instant("since", since), _instant("until", until)
        key = None if subject is None else subject_key(subject)
        self._session.begin(Action.AUDIT, self._actor)
        domain_id = None if key is None else self._domain_of(key)
        return self._entries(first, last, domain_id)

    def _entries(
        self, first: datetime | None, last: datetime | None, domain_id: bytes | None
    ) -> Iterator[LedgerEntry]:
        for folded in refold(self._session):
            entry = self._entry(folded, domain_id)
            if entry is None:
                continue
            early = first is not None and entry.at is not None and entry.at < first
            late = last is not None and entry.at is not None and entry.at > last
            if not early and not late:
                yield entry

    def _domain_of(self, subject: SubjectKey) -> bytes:
        domain = self._session.keyring.find(subject)
        if domain is None:
            raise NotFoundError("the vault knows nothing of that subject", kind="subject")
        return domain.id

    def _entry(self, folded: Folded, domain_id: bytes | None) -> LedgerEntry | None:
        record = folded.record
        if record is None:
            void = LedgerEntry(folded.index, "void", None, reason=folded.void)
            return void if domain_id is None else None
        facts = record.facts()
        if domain_id is not None and not _names(self._session, facts, domain_id):
            return None
        audit = self._audit(record)
        shown = {
            name: value.hex() if isinstance(value, bytes) else value
            for name in facts.__struct_fields__
            if isinstance(value := getattr(facts, name), bytes | str | int | float | None)
        }
        frame = record.frame
        return LedgerEntry(
            folded.index,
            frame.kind,
            _moment(frame.at_us),
            frame.writer.hex(),
            audit.actor if audit else None,
            audit.action if audit else None,
            audit.reason if audit else None,
            shown,
            tuple(audit.roles) if audit else (),
            audit.purpose if audit else None,
        )

    def _audit(self, record: rec.Record) -> AuditBody | None:
        for ref, data in zip(record.frame.bodies, record.bodies, strict=True):
            if ref.key == "audit" and data is not None:
                try:
                    return codec.decode(self._session.open_body(ref, data), AuditBody)
                except (NotFoundError, DamagedData):
                    return None
        return None


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


def _names(session: Session, facts: rec.Facts, domain_id: bytes) -> bool:
    """Tell whether a record's clear part names a domain."""
    ids, listed = b"", b""
    if isinstance(facts, rec.SnapshotCommitted):
        ids, listed = facts.domains, facts.domains_list
    elif isinstance(facts, rec.DomainsAdded):
        ids, listed = facts.added, facts.added_list
    if listed:
        ids = session.log.fetch_list(listed)
    return any(ids[at : at + 16] == domain_id for at in range(0, len(ids), 16))
