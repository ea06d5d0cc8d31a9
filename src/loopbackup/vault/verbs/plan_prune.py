"""What a prune would do: which packs are dead, wasteful or unknown. Nothing is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import define, field, frozen

from ...errors import DamagedData, NewerFormat, NotFoundError
from ...terms import Problem
from ..content.segment import SegmentReader
from ..format import names
from ..keys.domains import Domain
from ..ledger.state import State, epoch_short
from ..ledger.values import key_short
from ..store.protocol import StoredObject
from .check_packs import pack_is_gone, too_many_missing
from .mark import Marks, domains_of, live_chunks, live_parts
from .session import Session

__all__ = ["Listing", "Plan", "condemnations", "look", "names_any"]

MAX_WASTE: Final = 0.05
MANY_TAILS: Final = 8
OLDEST: Final = datetime.min.replace(tzinfo=UTC)


@define
class Usage:
    """How much of a pack is in use, in bytes of blobs."""

    used: int = 0
    live: float = 0.0


@frozen
class Listing:
    """What lies in the store under the names that a prune looks after."""

    sizes: dict[bytes, int]
    """Short name -> size."""
    modified: dict[bytes, datetime | None]

    @classmethod
    def take(cls, session: Session) -> Listing:
        """List packs, index objects, lists and keys."""
        sizes: dict[bytes, int] = {}
        modified: dict[bytes, datetime | None] = {}
        for prefix, letter in (
            (names.PACKS, b"p"),
            (names.INDEX, b"i"),
            (names.LISTS, b"l"),
            (names.KEYS, b"s"),
        ):
            for entry in session.store.list(prefix):
                short = _short(letter, entry)
                if short is not None:
                    # An epoch has several objects: it is as old as the newest.
                    sizes[short] = sizes.get(short, 0) + entry.size_bytes
                    modified[short] = _later(modified.get(short, OLDEST), entry.modified_at)
        return cls(sizes, modified)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


def _short(letter: bytes, entry: StoredObject) -> bytes | None:
    if letter == b"s":
        return key_short(entry.key)
    try:
        digest = bytes.fromhex(entry.key.rsplit("/", 1)[-1])
    except ValueError:
        return None
    return letter + digest if len(digest) == 32 else None


@define
class Plan:
    """What one look at the vault says should go."""

    size: int
    snapshots: set[bytes]
    segments: set[bytes]
    condemned: int
    """What :func:`condemnations` gave before it."""
    dead: set[bytes] = field(factory=set)
    rewrite: set[bytes] = field(factory=set)
    unknown: set[bytes] = field(factory=set)
    retired: set[bytes] = field(factory=set)
    """Packs that cannot be read, not even their directory, and that nothing needs."""
    rescue: list[tuple[Domain, bytes]] = field(factory=list)
    """Live chunks that no pack holds."""
    doubtful: list[tuple[Domain, bytes]] = field(factory=list)
    """Live chunks that only distrusted packs hold."""
    clearing: set[bytes] = field(factory=set)
    """Distrusted packs that go once what is alive in them is moved out."""
    usage: dict[bytes, Usage] = field(factory=dict)
    fenced: Mapping[bytes, int] = field(factory=dict)
    """Domains that were erased when it was made."""
    of_erased: dict[bytes, set[bytes]] = field(factory=dict)
    """By segment that knows of any of them: the packs that hold, or may hold, their bytes."""
    problems: list[Problem] = field(factory=list)
    complete: bool = True
    """Everything could be read; otherwise nothing is swept."""


def condemnations(state: State) -> int:
    """Count the condemned names, but for keys: on those no chunk depends."""
    return sum(name[:1] not in b"sk" for name in state.condemned)


def look(plan: Plan, session: Session, state: State, marks: Marks, listing: Listing) -> None:
    """
    Decide what is dead, wasteful, unknown; *plan* is filled, nothing is written.

    Raises:
        DamagedData: Most packs are missing: the place is wrong, not the packs.
    """
    usage: dict[bytes, Usage] = defaultdict(Usage)
    pinned: set[bytes] = set()
    known = {pack.name for reader in session.index.segments(state) for pack in reader.packs}
    _distrust_missing(plan, session, known - state.condemned.keys(), listing)
    for domain in domains_of(session, state, marks):
        if domain is None:
            # Whose it was cannot be told any more, so neither what is in use.
            plan.complete = False
            pinned |= known
            continue
        live = live_chunks(session, marks, domain)
        for part in live_parts(session, state, domain, live):
            use = usage[part.blob.pack]
            use.used += part.blob.length
            use.live += part.live_bytes
            if domain.id in marks.pinned:
                pinned.add(part.blob.pack)
            elif session.index.distrusts(part.blob.pack, state):
                plan.doubtful += [(domain, chunk_id) for chunk_id, _ in part.live]
        if domain.id in marks.pinned:
            plan.complete = False
        else:
            plan.rescue += [(domain, chunk_id) for chunk_id in sorted(live)]
    plan.problems += marks.problems
    claimed = state.claimed()
    plan.usage = usage
    usable = known - state.condemned.keys() - pinned - claimed
    plan.dead = {pack for pack in usable if usage[pack].live == 0}
    # Whether a distrusted pack can go shows when what is alive in it has been moved.
    plan.clearing = {p for p in usable - plan.dead if session.index.distrusts(p, state)}
    sound = usable - plan.dead - plan.clearing
    plan.rewrite = _wasteful(sound, usage, listing, session.header.pack_size)
    plan.fenced = state.fenced
    plan.of_erased = _of_erased(session, state)
    plan.rewrite |= sound & set().union(*plan.of_erased.values())
    lost = [problem for reader in session.index.segments(state) for problem in reader.lost]
    if lost:
        if plan.complete and not plan.rescue:
            plan.retired = {p for p in map(_pack_of, lost) if _unreadable(session, p)} - claimed
        # A pack that a lost directory does not name any more is not unknown.
        plan.complete = False
        plan.problems += [Problem(p.kind, str(p), object=p.context["object"]) for p in lost]
    else:
        plan.unknown = _unknown(session, state, listing, known | claimed)


def _distrust_missing(plan: Plan, session: Session, packs: set[bytes], listing: Listing) -> None:
    """Find the packs that are gone; what is alive in them is looked for elsewhere first."""
    absent = packs - listing.sizes.keys()
    if too_many_missing(len(absent), len(packs)):
        raise DamagedData(
            f"{len(absent):,} of {len(packs):,} packs are missing; nothing was changed. "
            "Is this the whole folder, and is everything mounted?",
            kind="missing",
        )
    for pack in sorted(absent):
        if pack_is_gone(session, pack):
            session.index.distrust(pack)
            name = names.pack_name(pack[1:])
            plan.problems.append(Problem("missing", "a pack is missing", object=name))


def _pack_of(lost: DamagedData) -> bytes:
    return b"p" + bytes.fromhex(str(lost.context["object"]).rsplit("/", 1)[-1])


def _unreadable(session: Session, pack: bytes) -> bool:
    """Try once more to read a pack's directory; a newer format is not damage."""
    try:
        session.index.pack(pack)
    except (NotFoundError, DamagedData):
        return True
    except NewerFormat:
        return False
    return False


def names_any(reader: SegmentReader, fenced: Mapping[bytes, int]) -> bool:
    """Tell whether a segment has a block of a domain that was erased."""
    return bool(fenced) and any(domain_id in fenced for domain_id in reader.domains())


def _of_erased(session: Session, state: State) -> dict[bytes, set[bytes]]:
    """
    Give, by segment, the packs that hold bytes of those who were erased, or may.

    A segment says of which domains it knows, but only their keys would say in
    which of its packs; so the packs are asked, until the segment is merged.
    """
    found: dict[bytes, set[bytes]] = {}
    for reader in session.index.segments(state):
        if not names_any(reader, state.fenced):
            continue
        packs = found.setdefault(reader.short, set())
        for pack in reader.packs:
            if pack.name not in state.condemned and _may_hold(session, pack.name, state.fenced):
                packs.add(pack.name)
    return found


def _may_hold(session: Session, pack: bytes, fenced: Mapping[bytes, int]) -> bool:
    try:
        return names_any(session.index.pack(pack), fenced)
    except NotFoundError:
        return False
    except (DamagedData, NewerFormat):
        return True


def _wasteful(
    packs: set[bytes], usage: dict[bytes, Usage], listing: Listing, pack_size: int
) -> set[bytes]:
    """Choose the packs to rewrite: the worst until at most 5 % is wasted, and many tails."""
    chosen = set()
    live = sum(usage[p].live for p in packs)
    used = float(sum(usage[p].used for p in packs))
    by_waste = sorted(packs, key=lambda p: usage[p].live / max(usage[p].used, 1))
    for pack in by_waste:
        use = usage[pack]
        if used <= 0 or 1 - live / used <= MAX_WASTE or 1 - use.live / use.used <= MAX_WASTE:
            break
        chosen.add(pack)
        used -= use.used - use.live
    tails = {p for p in packs if listing.sizes.get(p, pack_size) < pack_size}
    if len(tails) >= MANY_TAILS:
        chosen |= tails
    return chosen


def _unknown(session: Session, state: State, listing: Listing, known: set[bytes]) -> set[bytes]:
    """
    Give the objects that no record and no claim knows, older than the grace.

    Where a store keeps no times, nothing shows that an object does not belong to
    a run that has claimed nothing yet; only a vault without a grace takes it.
    """
    named = known | {segment.name for segment in state.segments}
    named |= {b"l" + digest for digest in state.lists}
    named |= {b"s" + digest for digest in state.shards.values()}
    named.add(epoch_short(state.epoch))
    grace_s = session.header.grace_s
    oldest = session.log.now() - timedelta(seconds=grace_s)
    undated = datetime.max.replace(tzinfo=UTC) if grace_s else oldest
    return {
        short
        for short in listing.sizes
        if short not in named
        and short not in state.condemned
        and (listing.modified[short] or undated) <= oldest
    }
