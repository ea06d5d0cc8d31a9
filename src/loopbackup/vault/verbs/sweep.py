"""Sweeping: delete what was condemned long enough ago, and say so in the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final, TypeAlias

from attrs import define, field

from ...errors import StoreError
from ...logs import get_logger
from ...terms import Action, Actor, Problem
from ..format import names
from ..format import record as rec
from ..ledger.log import Draft
from ..ledger.state import State, join_names, object_name
from .old_keys import old_names
from .session import Session

__all__ = ["Swept", "ahead", "older_than", "sweep"]

_Short: TypeAlias = bytes
MAX_KEPT: Final = 1024
MAX_AHEAD_S: Final = 900
"""Clocks of hosts that are less apart are not worth a word."""


@define
class Swept:
    """Counts of a sweep."""

    objects: int = 0
    bytes: int = 0
    kept: int = 0
    until: dict[_Short, datetime | None] = field(factory=dict)
    """Short names of what stays, each with the time until which, if the store says so."""


def sweep(session: Session, actor: Actor, counted: int) -> Swept:
    """
    Delete what is condemned and past the grace on the primary store.

    Args:
        counted: Size of the ledger at which liveness was counted anew: the
            caller has found every live chunk a place outside of what was
            condemned by then, and condemned nothing live itself.

    An object that the store refuses to delete, or of which it keeps versions, is kept
    in the record and tried again by the next sweep.
    """
    state = session.log.state
    upto, due = _due(session, state, counted)
    if not due:
        return Swept()
    sizes = {
        entry.key: entry.size_bytes
        for prefix in (names.PACKS, names.INDEX, names.LISTS, names.KEYS)
        for entry in session.store.list(prefix)
    }
    result = Swept()
    before = state.swept.get(session.header.vault_id, (-1, frozenset()))
    unsaid = {short for short in due if state.condemned[short][0] > before[0]}
    for short, name in _named(state, due, sizes, unsaid | before[1]):
        try:
            remains = session.store.delete(name)
        except StoreError as exc:
            get_logger().warning("an object cannot be deleted yet", object=name, kind=exc.kind)
            result.until[short] = None
            continue
        if remains.versions:
            # Of the objects of an epoch the last one counts, and one without a date above all.
            ends = (result.until.get(short, remains.until), remains.until)
            result.until[short] = None if None in ends else max(filter(None, ends))
        result.objects += name in sizes
        result.bytes += sizes.get(name, 0)
    kept = sorted(result.until)
    result.kept = len(kept)
    if upto >= before[0] and (upto, frozenset(kept)) != before and len(kept) <= MAX_KEPT:
        facts = rec.Swept(session.header.vault_id, upto, join_names(kept))
        session.log.commit_draft(Draft("swept", facts, [session.audit(actor, Action.PRUNE)]))
    return result


def _named(
    state: State, due: list[bytes], sizes: dict[str, int], unsaid: Collection[bytes]
) -> Iterator[tuple[bytes, str]]:
    """Give the objects that may stand in the store, each with the short name that condemns it."""
    for short in due:
        name = object_name(short)
        if short[:1] == b"k":
            found = {key for key in sizes if key.startswith(name)}
            found.update(old_names(state, short) if short in unsaid else ())
            yield from ((short, key) for key in sorted(found))
        elif name in sizes or short in unsaid:
            # Of what is not listed any more the store may keep versions: a sweep that was
            # killed has deleted it, say.
            yield short, name


def ahead(session: Session) -> list[Problem]:
    """Report claims, and records whose names wait to be swept, that a clock ahead has dated."""
    state = session.log.state
    limit_us = int((session.log.now().timestamp() + MAX_AHEAD_S) * 1_000_000)
    swept = state.swept.get(session.header.vault_id, (-1, frozenset()))[0]
    waiting = {
        index for index, at_us in state.condemned.values() if index > swept and at_us > limit_us
    }
    problems = [
        Problem(
            "clock",
            f"ledger record {index} was made by a clock that is ahead of this one",
            object=names.record_name(index),
        )
        for index in sorted(waiting)
    ]
    claims = sum(claim.at_us > limit_us for claim in state.claims.values())
    if claims:
        text = f"{claims:,} unfinished runs have a clock that is ahead of this one"
        problems.append(Problem("clock", text))
    return problems


def _due(session: Session, state: State, counted: int) -> tuple[int, list[bytes]]:
    """Give the last record whose condemned names are all past the grace, and the names."""
    upto = older_than(state, session.log.now(), session.header.grace_s, counted) - 1
    return upto, [name for name, (index, _) in state.condemned.items() if index <= upto]


def older_than(state: State, now: datetime, age_s: int, size: int) -> int:
    """Give the number, *size* at most, below which no record condemned anything in *age_s*."""
    now_us = int(now.timestamp() * 1_000_000)
    limit_us = now_us - age_s * 1_000_000
    later_us = now_us
    for index, at_us in sorted(set(state.condemned.values()), reverse=True):
        # A clock that was ahead says nothing, and must not hold up all that comes after:
        # the record is as old at least as the next one that condemned anything.
        later_us = at_us if at_us <= now_us else later_us
        if later_us > limit_us:
            size = min(size, index)
    return size
