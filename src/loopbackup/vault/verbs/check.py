"""
Checking: ledger, keys, index, entries, places; with data, every byte.

An inspection reports, it does not raise: damage in one place is told with the
snapshots and entries that it costs, and everything else stays restorable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from attrs import define, evolve, field

from ...errors import (
    DamagedData,
    FormatError,
    InputError,
    LoopbackupError,
    NotFoundError,
    RollbackDetected,
)
from ...show import text
from ...terms import Action, Actor, Problem
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_HEADER_OBJECT_BYTES
from ..format.header import split_header
from ..keys.root import read_root, read_slot
from ..ledger.core import state_digest
from ..ledger.log import Draft, Fresh, inline_or_list
from ..ledger.state import State, join_names
from .check_entries import EntryCheck
from .check_packs import PackCheck
from .mark import basis
from .refold import fold_again
from .session import Session

__all__ = ["CheckReport", "run_check"]

MAX_LOOKS: Final = 4
MAX_LINES: Final = 20
INLINE_BYTES: Final = 16 << 10


@define
class CheckReport:
    """
    What a check found.

    ``problems`` names damaged objects with the snapshots that need them, then
    the entries that cannot be restored, up to 10,000; ``read_bytes`` is what
    ``data`` made it read. ``str(report)`` counts the problems by kind.
    """

    snapshots: int = 0
    packs: int = 0
    records: int = 0
    chunks: int = 0
    read_bytes: int = 0
    problems: list[Problem] = field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        what = "all well" if self.ok else text.count(len(self.problems), "problem")
        looked_at = ", ".join(
            (
                text.count(self.records, "record"),
                text.count(self.snapshots, "snapshot"),
                text.count(self.packs, "pack"),
                text.count(self.chunks, "chunk"),
            )
        )
        head = f"{what}: {looked_at}, {self.read_bytes / 1e6:,.1f} MB of data read"
        counts = Counter(str(problem) for problem in self.problems)
        lines = [
            head,
            *(f"  {count:,} x {problem}" for problem, count in counts.most_common(MAX_LINES)),
        ]
        if len(counts) > MAX_LINES:
            lines.append(f"  and {len(counts) - MAX_LINES:,} other kinds")
        return "\n".join(lines)


def _share_of(data: object) -> float:
    """
    Give the share of the packs that a check reads.

    Raises:
        InputError: It is not True, False or a number from 0 to 1.
    """
    if not isinstance(data, int | float) or not 0.0 <= data <= 1.0:
        raise InputError("data is True, False or a share between 0 and 1")
    return float(data)


def run_check(session: Session, actor: Actor, *, data: object) -> CheckReport:
    """
    Check the vault; see :meth:`Vault.check`.

    Raises:
        PolicyError: Refused.
        InputError: *data* is no share.
    """
    share = _share_of(data)
    session.begin(Action.CHECK, actor)
    run = _Check(session, PackCheck(session, share))
    run.go()
    bad, good = run.packs.bad(), run.packs.whole
    for pack in good:
        session.index.trust(pack)
    for pack in bad:
        session.index.distrust(pack)
    if not session.read_only:
        try:
            session.log.commit(Fresh(partial(_draft, session, actor, run, bad, good)))
        except LoopbackupError as exc:
            run.report.problems.append(Problem(exc.kind, f"the check was not recorded: {exc}"))
    return run.report


def _draft(
    session: Session, actor: Actor, run: _Check, bad: set[bytes], good: set[bytes], state: State
) -> Draft:
    """Record that a check ran, and which packs backups must not rely on from now on."""
    distrusted = sorted(((state.distrusted - good) | bad) - state.condemned.keys())
    joined, listed = inline_or_list(session.store, join_names(distrusted), INLINE_BYTES)
    facts = rec.Checked(len(run.report.problems), run.packs.share, joined, listed)
    return Draft("check", facts, [session.audit(actor, Action.CHECK)])


@define(eq=False)
class _Check:
    session: Session
    packs: PackCheck
    report: CheckReport = field(factory=CheckReport)
    state: State = field(init=False)

    def go(self) -> None:
        """
        Check everything that can be checked.

        A prune, a forget or new keys make what was looked at go away beside
        the check. So nothing is reported before a look at which nothing moved.
        """
        self.state = self.session.log.state
        self._guard("ledger", self._ledger)
        ledger = self.report.problems
        for _ in range(MAX_LOOKS):
            self.state = state = self.session.log.state
            seen = basis(state)
            self.report = CheckReport(records=state.size, problems=list(ledger))
            self._look()
            if len(self.report.problems) == len(ledger) or not self._moved(seen):
                return

    def _moved(self, seen: object) -> bool:
        try:
            self.session.log.refresh()
        except LoopbackupError:
            # What is wrong with the ledger is in the report already.
            return False
        return basis(self.session.log.state) != seen

    def _look(self) -> None:
        report = self.report
        self._guard("keys", self._keys)
        if not self._guard("index", self._index):
            return
        self._guard("packs", partial(self.packs.look, self.state))
        report.packs, report.chunks = len(self.packs.packs), self.packs.chunks
        report.read_bytes = self.packs.read_bytes
        entries = EntryCheck(self.session, self.packs)
        for snapshot in sorted(self.state.snapshots.values(), key=lambda s: s.index):
            report.snapshots += 1
            entries.look(snapshot)
        self._guard("marks", partial(entries.look_at_overlays, self.state))
        found = [*report.problems, *self.packs.problems()]
        report.problems = [_with_snapshots(problem, entries) for problem in found]
        report.problems += entries.all_problems()

    def _guard(self, what: str, step: Callable[[], Any]) -> bool:
        try:
            step()
        except LoopbackupError as exc:
            self._problem(exc, what=what)
            return False
        return True

    def _problem(self, exc: LoopbackupError, *, what: str) -> None:
        found = exc.context.get("object")
        kind = exc.kind if exc.kind != "not_found" else "missing"
        self.report.problems.append(Problem(kind, f"{what}: {exc}", object=found))

    # ---- parts

    def _ledger(self) -> None:
        for alarm in self.state.alarms:
            self.report.problems.append(
                Problem(
                    "void_record",
                    f"ledger record {alarm.index} has no effect: {alarm.reason}",
                    object=names.record_name(alarm.index),
                )
            )
        used = self.session.log.folded
        try:
            again = fold_again(self.session, used)
        except (RollbackDetected, FormatError) as exc:
            raise DamagedData(str(exc)) from exc
        if state_digest(again) != state_digest(used):
            raise DamagedData("folding the ledger again gives another state")
        for index in again.torn:
            self.report.problems.append(
                Problem(
                    "lost_body",
                    f"ledger record {index} holds, but who made it and why, or what a snapshot "
                    "is called, was altered or cut off",
                    object=names.record_name(index),
                )
            )
        for digest in sorted(self.state.lists):
            self._guard("ledger", partial(self.session.log.fetch_list, digest))
        self._guard("ledger", self._first_record)
        self._guard("ledger", self._beyond_head)

    def _first_record(self) -> None:
        """Hold record 0 in the header's object against the one in the ledger."""
        found = split_header(self.session.store.get_whole(names.HEADER, MAX_HEADER_OBJECT_BYTES))
        if found.record != self.session.log.record(0):
            raise DamagedData("the vault's object ends in another record 0", object=names.HEADER)

    def _beyond_head(self) -> None:
        """Look for records above a gap: what follows a lost record is out of sight."""
        if self.session.log.is_replica:
            return  # They are being put, from the last one down.
        listed = [entry.key for entry in self.session.store.list(names.LEDGER)]
        self.session.log.refresh()
        head = names.record_name(self.session.log.state.size)
        beyond = [name for name in listed if name > head]
        if beyond:
            raise DamagedData(
                f"a ledger record is missing, and there are {len(beyond)} after it",
                kind="missing_record",
                object=head,
            )

    def _keys(self) -> None:
        store, state = self.session.store, self.state
        self._guard("keys", partial(read_root, store, state))
        for slot_id, _kind, digest in state.slots:
            self._guard("keys", partial(read_slot, store, state.epoch, slot_id, digest))
        for number in sorted(state.shards):
            self._guard("keys", partial(self.session.keyring.check_shard, number))

    def _index_object(self, short: bytes) -> None:
        name = names.index_name(short[1:])
        if names.content_hash(self.session.store.get(name)) != short[1:]:
            raise DamagedData("an index object's bytes do not fit its name", object=name)

    def _index(self) -> None:
        """Open every block of the index."""
        index = self.session.index
        for domain_id in index.domain_ids(self.state):
            try:
                index.mend(self.session.keyring.by_id(domain_id), self.state)
            except NotFoundError:
                continue
            except DamagedData as exc:
                self._problem(exc, what="index")
        for reader in index.segments(self.state):
            if reader.rebuilt:
                self.report.problems.append(
                    Problem(
                        "index_rebuilt",
                        "an index object is missing or damaged; its packs' directories "
                        "stand in for it, and the next prune writes it anew",
                        object=names.index_name(reader.short[1:]),
                    )
                )
            elif self.packs.share > 0 and reader.short[:1] == b"i":
                self._guard("index", partial(self._index_object, reader.short))
            for lost in reader.lost:
                self._problem(lost, what="index")


def _with_snapshots(problem: Problem, entries: EntryCheck) -> Problem:
    """Add to a damaged object which snapshots need it."""
    needed = entries.needed_by.get(problem.object or "")
    return problem if needed is None else evolve(problem, snapshots=tuple(needed))
