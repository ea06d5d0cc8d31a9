"""
Erasing subjects: their keys leave the keyring with a change of epoch, and a receipt says so.

One record is the fence and the change of keys at once: killed before it, the
erasure has not begun; after it, it holds, and whoever erases again or prunes
deletes what is left.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from ...errors import DamagedData, ErasureIncomplete, InputError, NotFoundError
from ...receipts import Receipt
from ...show import text
from ...terms import (
    Action,
    Actor,
    Facts,
    Subject,
    SubjectKey,
    check_reason,
    subject_key,
)
from ..keys.suppress import Suppression
from .epoch import change_epoch, delete_old_keys
from .held import refuse_erasure
from .reach import Remaining, reach_replicas
from .receipt import Before, Left, proof_at, proof_of, read_receipt, sign_receipt
from .session import Session

__all__ = ["run_erase"]

MAX_SUBJECTS: Final = 100_000


def run_erase(session: Session, actor: Actor, subjects: Sequence[Subject], reason: str) -> Receipt:
    """
    Erase subjects from every snapshot, at once.

    A tenant's own subject takes its children along. When all were erased before,
    by one erasure, that one gets another receipt.

    Raises:
        NotFoundError: The vault knows nothing of one of them, or only some were
            erased before; nothing was changed.
        PolicyError: Refused, or a hold stands against it; nothing was changed.
        ErasureIncomplete: The erasure holds, and ``receipt`` says so, but the
            store keeps old key objects, or a replica is out of reach: ``remaining``.
    """
    check_reason(reason)
    keys = _subjects(subjects)
    for key in keys:
        session.ask(Action.ERASE, actor, Facts(actor=actor, subject=key, reason=reason))
    session.catch_up()
    suppression = _suppression(session, keys)
    domains = _domains(session, suppression)
    strangers = _without_domain(keys, domains.values())
    before = session.keyring.erasures(strangers)
    if strangers and (domains or len(before) < len(strangers)):
        _refuse_strangers(keys, strangers, before)
    if not domains:
        return _again(session, actor, keys, set(before.values()))
    counted = Before.of(session, domains)
    details = {"erasure": suppression.erasure.hex(), "subjects": len(keys)}
    changed = change_epoch(
        session,
        actor,
        rekey=False,
        erase=suppression,
        judge=partial(refuse_erasure, session, keys),
        action=Action.ERASE,
        reason=reason,
        details=details,
    )
    if changed is None:
        return run_erase(session, actor, subjects, reason)
    session.reader.drop()
    session.index.drop(changed.dropped)
    # Somebody else may have erased some of them in the meantime.
    others = set(_without_domain(keys, changed.dropped.values()))
    keys = [key for key in keys if key not in others]
    known = {
        "erasure": suppression.erasure.hex(),
        "reason": reason,
        "domains": sorted(domain_id.hex() for domain_id in changed.dropped),
        "before": counted.show(),
        "ledger": proof_of(session, changed),
    }
    return _finish(session, actor, keys, known, changed.dropped, changed.left)


def _subjects(subjects: Sequence[Subject]) -> list[SubjectKey]:
    if isinstance(subjects, str) or not isinstance(subjects, Sequence):
        raise InputError('subjects are a list: erase_subjects([("acme", "user-42")], reason=...)')
    keys = list(dict.fromkeys(map(subject_key, subjects)))
    if not 1 <= len(keys) <= MAX_SUBJECTS:
        raise InputError(f"1 to {MAX_SUBJECTS:,} subjects are erased at a time, not {len(keys):,}")
    return keys


def _suppression(session: Session, keys: Iterable[SubjectKey]) -> Suppression:
    keyring = session.keyring
    return Suppression(
        frozenset(keys),
        os.urandom(16),
        keyring.root.secrets.suppression,
        session.header.vault_id,
        keyring.home_key,
    )


def _domains(session: Session, suppression: Suppression) -> dict[bytes, SubjectKey]:
    """Give the domains that the erasure takes, and whose they are."""
    found: dict[bytes, SubjectKey] = {}
    for number in suppression.numbers(session.log.state.shards):
        shard = session.keyring.current_shard(number)
        if shard is not None:
            found |= suppression.find(number, shard)
    return found


def _without_domain(keys: Iterable[SubjectKey], owners: Collection[SubjectKey]) -> list[SubjectKey]:
    """Give the subjects of whom there is no domain, nor of any of their children."""
    known = {*owners, *(owner[:1] for owner in owners)}
    return [key for key in keys if key not in known]


def _refuse_strangers(
    keys: Sequence[SubjectKey],
    strangers: Sequence[SubjectKey],
    before: Mapping[SubjectKey, bytes],
) -> None:
    unknown = [key for key in strangers if key not in before]
    if unknown:
        raise NotFoundError(
            f"the vault knows nothing of {len(unknown):,} of {len(keys):,} subjects; "
            "nothing was changed (.subjects names them)",
            kind="subject",
            subjects=tuple(unknown),
        )
    raise NotFoundError(
        f"{len(strangers):,} of {len(keys):,} subjects were erased before; nothing was changed. "
        "Leave them out (.subjects names them), and ask for their receipt alone",
        kind="erased",
        subjects=tuple(strangers),
    )


def _finish(
    session: Session,
    actor: Actor,
    keys: Sequence[SubjectKey],
    known: Mapping[str, Any],
    domains: Iterable[bytes],
    left: Left,
) -> Receipt:
    """Look at what there is now, reach the replicas, sign that, and raise if old keys are left."""
    _verify(session, keys, domains)
    replicas = reach_replicas(session, actor, known["ledger"]["records"][0]["index"])
    receipt = sign_receipt(session, actor, keys, known, left, replicas)
    pending = [replica for replica in replicas if replica.left]
    if left or pending:
        raise ErasureIncomplete(
            _incomplete(len(left), len(pending)),
            receipt=receipt,
            remaining=(
                *(Remaining(name, until) for name, until in left),
                *(one for replica in pending for one in replica.left),
            ),
        )
    return receipt


def _incomplete(left: int, pending: int) -> str:
    parts = [f"the store keeps {left} old key objects"] if left else []
    parts += [f"old keys are left at {text.count(pending, 'replica')}"] if pending else []
    return (
        f"the erasure holds, but {' and '.join(parts)} (.remaining says which, and why). "
        "When that can be mended, erase the same subjects again, with every replica given to "
        "open: that deletes them, and gives a receipt that says so. vault.declare_lost gives "
        "up a replica for good"
    )


def _verify(session: Session, keys: Iterable[SubjectKey], domains: Iterable[bytes]) -> None:
    """Look for the subjects and their domains in the keyring that counts now."""
    shards = session.log.state.shards
    if _domains(session, _suppression(session, keys)):
        raise DamagedData("the keyring still holds a subject that was erased", kind="erasure")
    homes = {domain_id[0] for domain_id in domains}
    for number in sorted(shards.keys() & {*homes, *range(256, 272)}):
        shard = session.keyring.current_shard(number)
        if shard is not None and any(shard.find_id(domain_id) for domain_id in domains):
            raise DamagedData("the keyring still holds a domain that was erased", kind="erasure")


def _again(
    session: Session, actor: Actor, keys: Sequence[SubjectKey], erasures: set[bytes]
) -> Receipt:
    """Finish an erasure that holds already, and sign what it has come to."""
    if len(erasures) > 1:
        raise InputError(
            "these subjects were erased by several erasures; ask for the receipt of one at a time",
            kind="erased",
        )
    (erasure,) = erasures
    state = session.log.state
    index, stored = state.erasures[erasure]
    known = _known(session, erasure, index, stored)
    left = delete_old_keys(session)
    domains = [domain_id for domain_id, at in state.fenced.items() if at == index]
    return _finish(session, actor, keys, known, domains, left)


def _known(session: Session, erasure: bytes, index: int, stored: int) -> dict[str, Any]:
    """Give what the erasure's receipt said, or, where there is none, what can still be told."""
    receipt = read_receipt(session, stored) if stored >= 0 else None
    if receipt is not None:
        names = ("erasure", "reason", "domains", "before", "ledger")
        return {name: receipt.facts[name] for name in names}
    fenced = session.log.state.fenced
    return {
        "erasure": erasure.hex(),
        "reason": None,
        "domains": sorted(domain_id.hex() for domain_id, at in fenced.items() if at == index),
        "before": None,
        "ledger": proof_at(session, index),
    }
