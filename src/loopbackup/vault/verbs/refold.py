"""The ledger once more from its first record: nothing is given out that is not verified."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from ...errors import DamagedData, NotFoundError
from ..format import names
from ..format.bounds import MAX_RECORD_BYTES
from ..format.record import Record
from ..ledger.state import State
from .session import Session

__all__ = ["Folded", "fold_again", "refold"]


@frozen
class Folded:
    """One record as the fold has taken it; ``record`` is None where it is void."""

    index: int
    record: Record | None
    void: str | None = None
    """Why it has no effect."""
    leaf: bytes = b""
    """Its hash as a leaf of the ledger's tree."""


def refold(session: Session) -> Iterator[Folded]:
    """
    Yield the records of the ledger as folded now, oldest first, each verified.

    A record comes when its signature, its writer's role and the tree over all
    records before it hold; a body that is not the one that was signed for is
    None. That the whole is the history in use is known at the end only.

    Raises:
        DamagedData: A record is missing, altered, or does not follow; or, at the
            end, the history is another than the one in use.

    Cost: one request and one Ed25519 verification (0.1 ms) a record; 32
    requests are under way at a time. Memory: a fold, and 32 records.
    """
    state = State(session.header.vault_id, session.header.authority)
    yield from _onto(state, session, session.log.folded)


def fold_again(session: Session, used: State) -> State:
    """
    Fold the ledger anew from its first record and hold it against *used*, a fold of it.

    No further than that goes: the fold in use may move on at any time.

    Raises:
        DamagedData: As :func:`refold`.
    """
    state = State(session.header.vault_id, session.header.authority)
    for _ in _onto(state, session, used):
        pass
    return state


def _onto(state: State, session: Session, used: State) -> Iterator[Folded]:
    void = {alarm.index for alarm in used.alarms}
    for index, data in enumerate(_records(session, used.size)):
        record = state.apply(data, session.log.fetch_list)
        if (record is None) != (index in void):
            raise _altered(index)
        void_reason = None if record is not None else state.alarms[-1].reason
        yield Folded(index, record, void_reason, state.tree.last)
    if state.tree.head() != used.tree.head():
        raise _altered(None)


def _altered(index: int | None) -> DamagedData:
    return DamagedData(
        "the ledger was altered since it was folded",
        kind="altered_ledger",
        object=None if index is None else names.record_name(index),
    )


def _records(session: Session, count: int) -> Iterator[bytes]:
    session.check_open()
    fetched = session.store.get_each(
        _keys(session, count), session.executor, max_bytes=MAX_RECORD_BYTES
    )
    try:
        for data in fetched:
            # Whoever is still reading when the vault is closed is told so.
            session.check_open()
            yield data
    except NotFoundError as exc:
        raise DamagedData(
            f"{exc.object} is missing", kind="missing_record", object=exc.object
        ) from exc


def _keys(session: Session, count: int) -> Iterator[str]:
    for index in range(count):
        # Its threads are gone then, and take no further request.
        session.check_open()
        yield names.record_name(index)
