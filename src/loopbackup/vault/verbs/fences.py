"""What is said of a subject that was erased."""

from __future__ import annotations

from ...errors import NotFoundError
from ...terms import SubjectKey
from .session import Session

__all__ = ["erased_error"]


def erased_error(session: Session, subject: SubjectKey) -> NotFoundError | None:
    """Say that a subject was erased, and by which record; None if it was not."""
    if not session.log.state.fenced or session.keyring.find(subject) is not None:
        return None
    erasure = session.keyring.erasures([subject]).get(subject)
    if erasure is None:
        return None
    known = session.log.state.erasures.get(erasure)
    index = None if known is None else known.record
    return NotFoundError(
        f"that subject was erased by ledger record {index}; nothing of it can be read",
        kind="erased",
        index=index,
    )
