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
from ...receipts import Receipt, Scope
from ...show import text
from ...terms import (
    Action,
    Actor,
    AllowAll,
    Facts,
    Subject,
    SubjectKey,
    check_reason,
    is_covered,
    subject_key,
)
from ..keys.domains import RECORDS
from ..keys.suppress import Owned, Suppression
from .epoch import EpochChanged, change_epoch, delete_old_keys
from .erasures import (
    check_scope,
    delete_left,
    erased_of,
    gone_of,
    known_of,
    names_of,
    proved,
    statuses_of,
)
from .held import refuse_erasure
from .reach import Remaining, reach_replicas
from .receipt import Before, Left, effective_by, proof_of, read_receipt, sign_receipt
from .retention import infos_with, live_infos
from .session import Session

__all__ = ["run_erase"]

MAX_SUBJECTS: Final = 100_000


def run_erase(
    session: Session,
    actor: Actor,
    subjects: Sequence[Subject],
    reason: str,
    scope: Scope = "data",
) -> Receipt:
    """
    Erase subjects from every snapshot, at once.

    A tenant's own subject takes its children along. Those who were erased before
    stay so, and the receipt covers them with the erasures that took them.

    Raises:
        NotFoundError: The vault knows nothing of one of them; nothing was changed.
        PolicyError: Refused, or a hold stands against it; nothing was changed.
        ErasureIncomplete: The erasure holds, and ``receipt`` says so, but the
            store keeps old key objects, or a replica is out of reach: ``remaining``.
    """
    check_reason(reason)
    keys = _subjects(subjects)
    statuses = statuses_of(check_scope(scope))
    session.catch_up()
    for key in keys:
        session.ask(Action.ERASE, actor, Facts(actor=actor, subject=key, reason=reason))
    suppression = _suppression(session, keys, statuses)
    domains = _domains(session, suppression)
    strangers = _without_domain(keys, domains.values())
    before = names_of(erased_of(session, strangers), strangers, statuses)
    _refuse_strangers(session, keys, [key for key in strangers if key not in before], scope)
    known: dict[bytes, dict[str, Any]] = {}
    _ask_about(session, actor, keys, domains, reason)
    if domains:
        counted = Before.of(session, domains)
        changed = change_epoch(
            session,
            actor,
            rekey=False,
            erase=suppression,
            judge=partial(refuse_erasure, session, keys),
            action=Action.ERASE,
            reason=reason,
            details={"erasure": suppression.erasure.hex(), "subjects": len(keys)},
        )
        if changed is None:
            return run_erase(session, actor, subjects, reason, scope)
        session.reader.drop()
        session.index.drop(changed.dropped)
        known[suppression.erasure] = {
            "erasure": suppression.erasure.hex(),
            "scope": scope,
            "reason": reason,
            "domains": sorted(domain_id.hex() for domain_id in changed.dropped),
            "before": None if counted is None else counted.show(),
            "effective_by": effective_by(session),
            "ledger": proof_of(session, changed),
        }
        left: Left = changed.left
    else:
        changed, left = None, delete_old_keys(session)
    names = _names(session, keys, statuses, changed, suppression.erasure)
    return _finish(session, actor, names, statuses, known, left)


def _ask_about(
    session: Session,
    actor: Actor,
    keys: Sequence[SubjectKey],
    domains: Mapping[bytes, Owned],
    reason: str,
) -> None:
    """Ask the gate again, which may have to know in which snapshots the subjects are."""
    if type(session.gate) is AllowAll:
        return
    found, live = infos_with(session, domains), live_infos(session)
    for key in keys:
        whose = [d for d, owned in domains.items() if is_covered(owned.subject, (key,))]
        about = {info.id: info for domain in whose for info in found.get(domain, ())}
        facts = Facts(
            actor=actor,
            subject=key,
            reason=reason,
            snapshots=tuple(about.values()),
            live=live,
        )
        session.ask(Action.ERASE, actor, facts)


def _names(
    session: Session,
    keys: Sequence[SubjectKey],
    statuses: Collection[int],
    changed: EpochChanged | None,
    erasure: bytes,
) -> dict[SubjectKey, set[bytes]]:
    """Give for each subject the erasures that took it, this one and others, in their order."""
    found = names_of(erased_of(session, keys), keys, statuses)
    if changed is not None:
        others = set(_without_domain(keys, changed.dropped.values()))
        for key in keys:
            if key not in others:
                found.setdefault(key, set()).add(erasure)
    return {key: found[key] for key in keys if key in found}


def _subjects(subjects: Sequence[Subject]) -> list[SubjectKey]:
    if isinstance(subjects, str) or not isinstance(subjects, Sequence):
        raise InputError('subjects are a list: erase_subjects([("acme", "user-42")], reason=...)')
    keys = list(dict.fromkeys(map(subject_key, subjects)))
    if not 1 <= len(keys) <= MAX_SUBJECTS:
        raise InputError(f"1 to {MAX_SUBJECTS:,} subjects are erased at a time, not {len(keys):,}")
    return keys


def _suppression(
    session: Session, keys: Iterable[SubjectKey], statuses: frozenset[int]
) -> Suppression:
    keyring = session.keyring
    return Suppression(
        frozenset(keys),
        os.urandom(16),
        keyring.root.secrets.suppression,
        session.header.vault_id,
        keyring.home_key,
        statuses,
    )


def _domains(session: Session, suppression: Suppression) -> dict[bytes, Owned]:
    """Give the domains that the erasure takes, and whose they are."""
    found: dict[bytes, Owned] = {}
    for number in suppression.numbers(session.log.state.shards):
        shard = session.keyring.current_shard(number)
        if shard is not None:
            found |= suppression.find(number, shard)
    return found


def _without_domain(keys: Iterable[SubjectKey], owners: Iterable[Owned]) -> list[SubjectKey]:
    """Give the subjects of whom there is no domain, nor of any of their children."""
    subjects = {owner.subject for owner in owners}
    known = {*subjects, *(subject[:1] for subject in subjects)}
    return [key for key in keys if key not in known]


def _refuse_strangers(
    session: Session, keys: Sequence[SubjectKey], unknown: Sequence[SubjectKey], scope: Scope
) -> None:
    if not unknown:
        return
    what = "has no entries of registers about" if scope == "records" else "knows nothing of"
    text = (
        f"the vault {what} {len(unknown):,} of {len(keys):,} subjects; "
        "nothing was changed (.subjects names them)"
    )
    recorded = session.keyring.find_many(unknown, RECORDS) if scope == "data" else {}
    if recorded:
        text = (
            f"of {len(recorded):,} of {len(keys):,} subjects there are only entries of registers, "
            'which scope="records" erases; nothing was changed (.subjects names them)'
        )
    raise NotFoundError(text, kind="subject", subjects=tuple(unknown))


def _finish(
    session: Session,
    actor: Actor,
    names: Mapping[SubjectKey, set[bytes]],
    statuses: frozenset[int],
    known: Mapping[bytes, dict[str, Any]],
    left: Left,
) -> Receipt:
    """Look at what there is now, reach the replicas, sign that, and raise if old keys are left."""
    erasures, erased = session.log.state.erasures, erased_of(session, names)
    newest_first = sorted(
        {name for of in names.values() for name in of}, key=lambda name: -erasures[name].record
    )
    facts = proved(
        session,
        [
            known.get(name) or known_of(session, name, erased.scope_of(name))
            for name in newest_first
        ],
    )
    domains = [bytes.fromhex(d) for each in (facts, *facts["earlier"]) for d in each["domains"]]
    _verify(session, names, statuses, domains)
    left = _left(session, newest_first, left)
    replicas = reach_replicas(session, actor, erasures[newest_first[0]].record)
    pending = [replica for replica in replicas if replica.left]
    if not left and not pending:
        facts |= gone_of(session, newest_first)
    facts["suppressed"] = erased.data.keys() >= names.keys()
    receipt = sign_receipt(session, actor, names, facts, left, replicas)
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


def _left(session: Session, newest_first: Sequence[bytes], left: Left) -> Left:
    """Give what the store keeps now, with what earlier receipts said that it keeps."""
    found = dict(left)
    for name in newest_first:
        index = session.log.state.erasures[name].receipt
        receipt = read_receipt(session, index) if index >= 0 else None
        if receipt is not None:
            found = dict(delete_left(session, receipt)) | found
    return tuple(found.items())


def _incomplete(left: int, pending: int) -> str:
    parts = [f"the store keeps {left} old key objects"] if left else []
    parts += [f"old keys are left at {text.count(pending, 'replica')}"] if pending else []
    return (
        f"the erasure holds, but {' and '.join(parts)} (.remaining says which, and why). "
        "When that can be mended, erase the same subjects again, with every replica given to "
        "open: that deletes them, and gives a receipt that says so. vault.declare_lost gives "
        "up a replica for good"
    )


def _verify(
    session: Session,
    keys: Iterable[SubjectKey],
    statuses: frozenset[int],
    domains: Iterable[bytes],
) -> None:
    """Look for the subjects and their domains in the keyring that counts now."""
    shards = session.log.state.shards
    if _domains(session, _suppression(session, keys, statuses)):
        raise DamagedData("the keyring still holds a subject that was erased", kind="erasure")
    homes = {domain_id[0] for domain_id in domains}
    for number in sorted(shards.keys() & {*homes, *range(256, 272)}):
        shard = session.keyring.current_shard(number)
        if shard is not None and any(shard.find_id(domain_id) for domain_id in domains):
            raise DamagedData("the keyring still holds a domain that was erased", kind="erasure")
