"""The ledger in the hands of a user: verify it, read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from ..errors import DamagedData, InputError, NotFoundError
from ..terms import Action, Actor, Subject, SubjectKey, subject_key
from .format import codec
from .format import record as rec
from .verbs.check import fold_again
from .verbs.session import AuditBody, Session, to_datetime

__all__ = ["Ledger", "LedgerEntry"]


@frozen
class LedgerEntry:
    """
    One record as a person reads it.

    ``actor`` and ``reason`` are None where the sealed part can no longer be
    opened; ``kind`` is ``"void"`` for a record without effect.
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
        fold_again(self._session)

    def entries(
        self, *, since: datetime | None = None, subject: Subject | None = None
    ) -> Iterator[LedgerEntry]:
        """
        Yield records, oldest first.

        Args:
            since: Only from this aware instant on, by the writers' clocks.
            subject: Only records that name this subject's domain.
        """
        if since is not None and since.tzinfo is None:
            raise InputError("a time needs a zone: datetime(..., tzinfo=UTC)")
        self._session.begin(Action.AUDIT, self._actor)
        domain_id = None if subject is None else self._domain_of(subject_key(subject))
        void = {alarm.index: alarm.reason for alarm in self._session.log.state.alarms}
        for index in range(len(self)):
            entry = self._entry(index, void.get(index), domain_id)
            if entry is None or (since and entry.at and entry.at < since.astimezone(UTC)):
                continue
            yield entry

    def _domain_of(self, subject: SubjectKey) -> bytes:
        domain = self._session.keyring.find(subject)
        if domain is None:
            raise NotFoundError("the vault knows nothing of that subject", kind="subject")
        return domain.id

    def _entry(self, index: int, void: str | None, domain_id: bytes | None) -> LedgerEntry | None:
        data = self._session.log.record(index)
        if void is not None:
            return LedgerEntry(index, "void", None, reason=void) if domain_id is None else None
        record = rec.parse_record(data, index)
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
            index,
            frame.kind,
            to_datetime(frame.at_us),
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
