"""The ledger once more from its first record: nothing is given out that is not verified."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from ...errors import DamagedData, InputError, NotFoundError
from ..format import names
from ..format.bounds import MAX_RECORD_BYTES
from ..format.record import Record
from ..ledger.state import State
from .session import Session

__all__ = ["Cursor", "Folded", "fold_again", "refold", "refold_from"]


@frozen
class Folded:
    """One record as the fold has taken it; ``record`` is None where it is void."""

    index: int
    record: Record | None
    void: str | None = None
    """Why it has no effect."""
    leaf: bytes = b""
    """Its hash as a leaf of the ledger's tree."""


class Cursor:
    """
    Where a reader of the ledger stands, so that he goes on there; for one vault, and one thread.

    It holds a fold of its own up to there: what comes later is verified against
    that, and not against the word of the store. Not picklable; a reader of
    another process begins anew.
    """

    def __init__(self) -> None:
        self._state: State | None = None

    def __reduce__(self) -> str:
        raise InputError("a cursor cannot be pickled; begin with a new one there")

    def _of(self, session: Session) -> State:
        """Give the fold of what was read; InputError if it is of another vault."""
        vault_id, authority = session.header.vault_id, session.header.authority
        if self._state is None:
            self._state = State(vault_id, authority)
        if (self._state.vault_id, self._state.authority) != (vault_id, authority):
            raise InputError("this cursor stands in the ledger of another vault")
        return self._state

    def __repr__(self) -> str:
        return f"<Cursor after {0 if self._state is None else self._state.size:,} records>"


def refold_from(session: Session, cursor: Cursor) -> Iterator[Folded]:
    """
    Yield what came after *cursor* as :func:`refold` does, and move it along.

    After DamagedData the cursor is of no use any more.

    Raises:
        InputError: The cursor is of another vault, or this copy is behind it; from the
            iterator: another one has moved the cursor.
        DamagedData: As :func:`refold`; also where the history is not the one that
            the cursor has read.

    Cost: as :func:`refold`, of the new records alone.
    """
    state, used = cursor._of(session), session.log.folded
    if state.size > used.size:
        raise InputError("this copy of the vault is behind what the cursor has read elsewhere")
    return _onto(state, session, used)


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
    for index, data in enumerate(_records(session, state.size, used.size), state.size):
        if state.size != index:
            raise InputError(
                "this cursor was moved meanwhile; one iterator at a time goes on from it"
            )
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


def _records(session: Session, first: int, end: int) -> Iterator[bytes]:
    session.check_open()
    fetched = session.store.get_each(
        _keys(session, first, end), session.executor, max_bytes=MAX_RECORD_BYTES
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


def _keys(session: Session, first: int, end: int) -> Iterator[str]:
    for index in range(first, end):
        # Its threads are gone then, and take no further request.
        session.check_open()
        yield names.record_name(index)
