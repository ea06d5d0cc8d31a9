"""What a gate is asked, what it answers, and what it plans: the vault knows rules by this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from .words import Actor, Hold, Location, Place, SubjectKey

__all__ = [
    "AllowAll",
    "Blocker",
    "Decision",
    "Facts",
    "Fate",
    "Gate",
    "History",
    "Outcome",
    "Past",
    "RetentionPlan",
    "SnapshotInfo",
    "Step",
    "StoredGate",
]


@frozen
class Blocker:
    """
    Something that stands against deleting a snapshot, whatever the rules say.

    Args:
        kind: ``hold``, ``restriction``, ``access request`` or ``lock``.
        id: Which one.
        until: When it ends by itself, if it does.
    """

    kind: str
    id: str = ""
    until: datetime | None = None

    def __str__(self) -> str:
        text = f"{self.kind} {self.id[:8]}".rstrip()
        return text if self.until is None else f"{text} until {self.until:%Y-%m-%d}"


@frozen
class SnapshotInfo:
    """
    What retention rules see of a snapshot; times are aware UTC.

    Args:
        id: Thirty-two hex digits.
        name: The series.
        created_at: When it was made, by the clock of who made it.
        index: Number of its ledger record: the order that nobody can forge.
        tags: As given to the backup.
        category: As given to the backup.
        writer: Id of an enrolled writer; None for whoever opens the vault itself.
        blockers: What stands against deleting it.
    """

    id: str
    name: str
    created_at: datetime
    index: int
    tags: Mapping[str, str] = field(factory=dict)
    category: str | None = None
    writer: str | None = None
    blockers: tuple[Blocker, ...] = ()


@frozen
class Facts:
    """
    What is known about an action when a gate decides on it.

    Args:
        actor: Who acts; None where the host named nobody.
        subject: Whom it is about.
        name: The series.
        tags: Of the snapshot.
        category: Of the snapshot.
        location: Where it goes, as the caller put it.
        reason: Why, as the actor says.
        places: All places that the action touches.
        snapshots: Those that the action would delete, or make poorer.
        live: All that the vault has, where their order may tell which of the times of
            *snapshots* can be believed.
        unknown: Of what has been: names of these that nobody wrote down, such as
            ``snapshots``, or ``approved_by`` of the actor. A rule that needs them cannot tell.
        more: Anything else, by name.
    """

    actor: Actor | None = None
    subject: SubjectKey | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(factory=dict)
    category: str | None = None
    location: Location | None = None
    reason: str | None = None
    places: tuple[Place, ...] = ()
    snapshots: tuple[SnapshotInfo, ...] = ()
    live: tuple[SnapshotInfo, ...] = ()
    unknown: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(factory=dict)


Outcome: TypeAlias = Literal["allow", "deny", "indeterminate"]


@frozen
class Step:
    """
    What one rule said.

    Args:
        rule: Its id.
        version: Its version.
        outcome: ``pass``, ``deny`` or ``missing``.
        required: What it needs.
        actual: What it found.
        nearest: The closest change that it would let pass.
        fact: Which fact is missing.
    """

    rule: str
    version: str
    outcome: Literal["pass", "deny", "missing"]
    required: str = ""
    actual: str = ""
    nearest: str | None = None
    fact: str | None = None

    def __str__(self) -> str:
        if self.outcome == "pass":
            return f"{self.rule} has nothing against it"
        if self.outcome == "missing":
            return f"{self.rule} needs {self.required}, and {self.fact} is not known"
        return f"{self.actual}. {self.rule} needs {self.required}"


@frozen
class Decision:
    """
    An answer of a gate, with its reasons.

    ``str(decision)`` is a sentence; ``nearest`` is the closest change that
    would have been allowed, if the gate knows one.

    Args:
        allowed: Whether it may be done.
        reasons: Why not.
        nearest: See above.
        outcome: ``indeterminate`` where no rule was against it, and a fact was missing.
        action: What was asked.
        at: The instant that it was decided for.
        trace: What every rule said, those that had nothing against it included.
        policy: Digest of the rules.
        facts: Digest of what was known.
        tables: Digest of the tables that rules looked things up in.
    """

    allowed: bool
    reasons: tuple[str, ...] = ()
    nearest: str | None = None
    outcome: Outcome | None = None
    action: str = ""
    at: datetime | None = None
    trace: tuple[Step, ...] = ()
    policy: str = ""
    facts: str = ""
    tables: str = ""

    def __str__(self) -> str:
        text = "allowed" if self.allowed else "refused"
        if self.reasons:
            text += ": " + "; ".join(self.reasons)
        if self.nearest:
            text += f". Nearest: {self.nearest}."
        return text


@frozen
class Past:
    """Something that was done, or refused, as the ledger tells it."""

    action: str
    facts: Facts
    at: datetime
    allowed: bool = True


@frozen(repr=False)
class History:
    """
    What happened in a vault, for a policy to be asked about.

    Args:
        events: In the order of the ledger; what was refused and gathered comes once.
        snapshots: Those that live.
        at: When it was told.
    """

    events: tuple[Past, ...] = ()
    snapshots: tuple[SnapshotInfo, ...] = ()
    at: datetime | None = None

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return f"<History: {len(self.events):,} events, {len(self.snapshots):,} snapshots>"


@frozen
class Fate:
    """
    What becomes of one snapshot, and why.

    Args:
        snapshot: Which.
        reasons: At least one.
        not_before: It has to live until then.
        not_before_rule: The rule that says so.
        not_after: It has to be gone by then.
        not_after_rule: The rule that says so.
        blocked_by: What keeps it although it should go, the strongest first.
    """

    snapshot: SnapshotInfo
    reasons: tuple[str, ...] = ()
    not_before: datetime | None = None
    not_before_rule: str | None = None
    not_after: datetime | None = None
    not_after_rule: str | None = None
    blocked_by: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """All reasons in one line."""
        return "; ".join((*self.reasons, *(f"blocked by {found}" for found in self.blocked_by)))


@frozen(repr=False)
class RetentionPlan:
    """
    Which snapshots live and which go; ``keep`` and ``expire`` partition them.

    ``blocked`` are those of ``keep`` that should go, and may not. ``str(plan)``
    is a table. Newest first.
    """

    keep: tuple[Fate, ...] = ()
    expire: tuple[Fate, ...] = ()
    blocked: tuple[Fate, ...] = ()
    at: datetime | None = None
    policy: str = ""

    def __repr__(self) -> str:
        counts = f"{len(self.keep):,} stay, {len(self.expire):,} go, {len(self.blocked):,} blocked"
        return f"<{type(self).__name__}: {counts}>"

    def __str__(self) -> str:
        every = sorted(
            [("expire", fate) for fate in self.expire] + [("keep", fate) for fate in self.keep],
            key=lambda pair: (pair[1].snapshot.created_at, pair[1].snapshot.index),
            reverse=True,
        )
        head = (
            f"{len(self.keep):,} snapshots stay ({len(self.blocked):,} of them blocked), "
            f"{len(self.expire):,} go"
        )
        rows = [
            f"{fate.snapshot.id[:8]}  {fate.snapshot.created_at:%Y-%m-%d %H:%M}  {what:<6}  "
            f"{_printable(fate.snapshot.name)}  {_printable(fate.why)}"
            for what, fate in every
        ]
        return "\n".join([head, *rows])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@runtime_checkable
class Gate(Protocol):
    """What the vault asks before it acts. A :class:`loopbackup.policy.Policy` is one."""

    @property
    def digest(self) -> str:
        """Names the rules in force, for the audit log."""
        ...

    def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
        """Say whether *action* is allowed; pure."""
        ...

    def plan_retention(
        self, snapshots: Sequence[SnapshotInfo], holds: Sequence[Hold], *, at: datetime
    ) -> RetentionPlan:
        """Say which snapshots should go; pure."""
        ...


@runtime_checkable
class StoredGate(Gate, Protocol):
    """
    A gate that a vault can keep, and any later process load again.

    The entry point *loader* of the group ``loopbackup.gates`` is a function that
    makes a gate of the same digest from what :meth:`dumps` gives.
    """

    @property
    def loader(self) -> str:
        """Name of the entry point."""
        ...

    def dumps(self) -> str:
        """Give the rules as text."""
        ...


@frozen
class AllowAll:
    """The gate of a vault without a policy."""

    digest: str = "none"

    def decide(self, action: str, facts: Facts, *, at: datetime) -> Decision:
        """Allow."""
        return Decision(allowed=True)

    def plan_retention(
        self, snapshots: Sequence[SnapshotInfo], holds: Sequence[Hold], *, at: datetime
    ) -> RetentionPlan:
        """Keep everything."""
        found = sorted(snapshots, key=lambda s: s.index, reverse=True)
        return RetentionPlan(keep=tuple(Fate(s, ("no policy",)) for s in found), at=at)
