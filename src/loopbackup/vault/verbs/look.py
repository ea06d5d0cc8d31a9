"""Reading what the ledger says of snapshots: names, tags, tables of domains."""

from __future__ import annotations

from attrs import frozen

from ...errors import DamagedData, InputError, NewerFormat, NotFoundError
from ...logs import get_logger
from ...terms import SnapshotInfo, SubjectKey
from ..content.streams import TableReader
from ..format import codec
from ..format.entries import Node
from ..format.snapshot import Report, SnapshotBody, SnapshotRoot
from ..keys.domains import Domain
from ..ledger.state import SnapshotRecord
from .session import Session, to_moment

__all__ = [
    "Described",
    "describe",
    "describe_all",
    "info_of",
    "is_described",
    "latest",
    "pick",
    "read_root",
    "read_table",
    "require_live",
]


@frozen
class Described:
    """A live snapshot with its sealed description opened."""

    record: SnapshotRecord
    body: SnapshotBody

    @property
    def id(self) -> str:
        """Thirty-two hex digits."""
        return self.record.id.hex()


def describe(session: Session, record: SnapshotRecord) -> Described:
    """
    Open a snapshot's description.

    One that is lost is replaced by a bare one with an empty name, so that the
    snapshot can still be looked into and restored by its id.

    Raises:
        NotFoundError: Its keys are gone: it was about one subject, now erased.
    """
    for ref, data in record.bodies:
        if ref.key in ("meta", "domain"):
            if data is None:
                return Described(record, _bare(record))
            return Described(record, codec.decode(session.open_body(ref, data), SnapshotBody))
    raise DamagedData("a snapshot's record has no description", index=record.index)


def _bare(record: SnapshotRecord) -> SnapshotBody:
    return SnapshotBody(
        name="",
        created_us=record.at_us,
        tags={},
        category=None,
        source={},
        report=Report(),
        entries=0,
        size=0,
    )


def is_described(described: Described) -> bool:
    """Tell whether the description is the snapshot's own, and stands in for no lost one."""
    return any(
        ref.key in ("meta", "domain") and data is not None for ref, data in described.record.bodies
    )


def info_of(described: Described) -> SnapshotInfo:
    """Say of a snapshot what rules go by."""
    record, body = described.record, described.body
    return SnapshotInfo(
        id=described.id,
        name=body.name,
        created_at=to_moment(body.created_us),
        index=record.index,
        tags=body.tags,
        category=body.category,
        writer=record.writer.hex() or None,
    )


def describe_all(session: Session) -> list[Described]:
    """
    Give all live snapshots whose description can be opened, newest first.

    Damaged ones are logged here and named by a check.
    """
    found = []
    for record in sorted(session.log.state.snapshots.values(), key=lambda r: r.index, reverse=True):
        try:
            found.append(describe(session, record))
        except NotFoundError:
            continue
        except DamagedData as exc:
            # Damage to one person's keys must not hide everybody's snapshots.
            get_logger().error("a snapshot cannot be described", index=record.index, kind=exc.kind)
    return found


def require_live(session: Session, snapshot: Described) -> None:
    """
    Hold a snapshot in hand against the ledger as folded now.

    Raises:
        NotFoundError: It was forgotten, or was never committed.
    """
    record = session.log.state.snapshots.get(snapshot.record.id)
    # The same id may have been committed anew, with other contents.
    if record is None or record.index != snapshot.record.index:
        raise NotFoundError("the snapshot is no longer in the vault", kind="snapshot")


def latest(session: Session, name: str) -> Described | None:
    """Give the newest live snapshot of a series."""
    for record in sorted(session.log.state.snapshots.values(), key=lambda r: r.index, reverse=True):
        try:
            described = describe(session, record)
        except (NotFoundError, DamagedData):
            continue
        if described.body.name == name:
            return described
    return None


def read_root(session: Session, record: SnapshotRecord) -> SnapshotRoot:
    """Read a snapshot's root."""
    meta = session.keyring.meta
    root = codec.decode(session.reader.read(meta, record.root, "root"), SnapshotRoot)
    if root.version != 1:
        raise NewerFormat("a snapshot is of a newer format; update loopbackup")
    if root.snapshot != record.id:
        raise DamagedData("a snapshot's root belongs to another snapshot", kind="swapped")
    return root


def read_table(session: Session, record: SnapshotRecord) -> TableReader:
    """Open a snapshot's table of domains."""
    return TableReader(session.keyring.meta, read_root(session, record), session.reader)


def pick(found: list[tuple[Domain, Node]], subject: SubjectKey | None) -> tuple[Domain, Node]:
    """
    Choose among the entries of one path: the one of *subject* (None: nobody's), or the only one.

    Raises:
        NotFoundError: There is none.
        InputError: Several subjects have one, and none of them is *subject*.
    """
    for domain, node in found:
        if domain.subject == subject:
            return domain, node
    if not found:
        raise NotFoundError("there is no entry at that path", kind="path")
    if len(found) > 1:
        raise InputError("several subjects have an entry at that path; say whose: subject=")
    return found[0]
