"""Letting somebody back in who was erased: a new domain, new keys, nothing of before."""

from __future__ import annotations

from ...errors import NotFoundError
from ...terms import Action, Actor, Facts, SubjectKey, check_reason
from .domains import ensure_domains
from .session import Session

__all__ = ["run_readmit"]


def run_readmit(session: Session, actor: Actor, subject: SubjectKey, reason: str) -> None:
    """
    Give an erased subject a new domain, so that backups take it in again.

    Raises:
        NotFoundError: It was not erased.
        PolicyError: Refused.
    """
    check_reason(reason)
    session.begin(Action.READMIT, actor, Facts(actor=actor, subject=subject, reason=reason))
    keyring = session.keyring
    if subject not in keyring.erasures([subject]):
        raise NotFoundError("that subject was not erased", kind="subject")
    audit = session.audit(actor, Action.READMIT, reason=reason)
    ensure_domains(session.store, session.log, keyring, [subject], readmit=audit)
