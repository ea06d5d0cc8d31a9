"""What the models of commit and of replicas share: names, records, options, the fold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from attrs import define, field, frozen
from tests.model.explore import Intern, bits

__all__ = [
    "NAMES",
    "RECORDS",
    "Claimed",
    "Condemned",
    "Fold",
    "Forgotten",
    "Lapsed",
    "Name",
    "Options",
    "Snapshot",
    "Swept",
    "Torn",
]

Chunks: TypeAlias = tuple[int, ...]


@frozen
class Name:
    """An object. Its name carries its content: chunks, or for an index (chunk, pack) pairs."""

    kind: Literal["pack", "index", "manifest"]
    owner: str
    number: int
    chunks: Chunks = ()
    places: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.owner}.{self.number}"


@frozen
class Snapshot:
    """A run committed; ``index`` is -1 where it put no pack."""

    run: str
    attempt: int
    chunks: Chunks
    index: int
    manifest: int


@frozen
class Forgotten:
    """A snapshot is forgotten."""

    run: str
    where: str = ""


@frozen
class Condemned:
    """A prune condemned names and replaced segments; ``absolute`` sets the whole index."""

    who: str
    names: int
    old: int
    new: int
    absolute: int = 0


@frozen
class Claimed:
    """A run named its packs."""

    run: str
    packs: int


@frozen
class Lapsed:
    """A claim was declared dead."""

    run: str


@frozen
class Swept:
    """Names that a summary may leave out."""

    names: int


@frozen
class Torn:
    """A record of which only a part was written."""

    number: int


Record: TypeAlias = Snapshot | Forgotten | Condemned | Claimed | Lapsed | Swept | Torn

NAMES: Intern[Name] = Intern()
RECORDS: Intern[Record] = Intern()


@frozen(kw_only=True)
class Options:
    """A case: who takes part, which faults strike, and which rule is broken, if any."""

    wants: tuple[Chunks, ...] = ((1, 3), (2, 3))
    """Chunks of each writer's source."""
    initial: tuple[tuple[Chunks, ...], ...] = (((1, 2),),)
    """Snapshots in the ledger at the start, each as packs of chunks."""
    pruners: int = 1
    rounds: int = 1
    """How many prunes each pruner makes."""
    repack: tuple[bool, ...] = (True, True)
    """Whether a pruner rewrites packs that are partly dead."""
    lag: bool = False
    """Folds may stop short of the head, and lists may show nothing new."""
    forget: tuple[int, ...] = (0,)
    """Which initial snapshots may be forgotten."""
    crashes: int = 1
    lost: int = 1
    """Record creations whose reply or request is lost."""
    zombies: int = 0
    """Record creations that happen later than their caller believes."""
    late_puts: int = 0
    """Puts of packs of which a second copy lands later."""
    torn: int = 0
    claims: bool = False
    lapses: int = 0
    """How many claims anyone may declare dead, at any moment."""
    # Rules; a case that is to fail breaks one.
    check_reused: bool = True
    check_own: bool = True
    check_own_meta: bool = True
    """Whether a writer also checks its own index segment and manifest."""
    orphans: Literal["condemn", "keep", "delete"] = "condemn"
    """What a prune does with unknown segments and manifests; delete: without a record."""
    fresh_names: bool = True
    commit_first: bool = False
    sweep_first: bool = False
    recheck_writer: bool = True
    recheck_pruner: bool = True
    pruner_checks_own: bool = True
    relative_index: bool = True
    """False: a prune's record sets the whole list of segments that it worked out first."""
    stable_id: bool = True
    """False: a new id for each attempt to commit."""
    drop_swept: bool = False
    """A summary forgets swept names, and running writers go on from it."""
    exclusive: bool = True
    """Whether the store keeps to exclusive create."""
    void_rule: bool = True
    """A torn record is void; False: nobody gets past it."""
    rereadable: bool = True
    """False: chunks come again from a condemned pack only, while that stands."""
    condemn_unknown: bool = True
    eager: bool = True
    """Delete at once what is condemned; fewer objects are never safer."""


@define
class Fold:
    """What a ledger says."""

    snapshots: dict[str, tuple[Chunks, int]] = field(factory=dict)
    """Run -> (chunks, manifest)."""
    live: set[str] = field(factory=set)
    times: dict[str, int] = field(factory=dict)
    """Run -> how many records commit it."""
    torn: bool = False
    claims: dict[str, int] = field(factory=dict)
    condemned: int = 0
    swept: int = 0
    index: set[int] = field(factory=set)
    named: int = 0
    """Names that any record gives, condemned ones too."""
    places: dict[int, list[int]] = field(factory=dict)
    """Chunk -> packs that count."""

    @classmethod
    def of(cls, ledger: tuple[int, ...]) -> Fold:
        """Fold a ledger."""
        fold = cls()
        for number in ledger:
            fold._apply(RECORDS.values[number])
        fold.named |= fold.condemned
        for index in sorted(fold.index):
            for chunk, pack in NAMES.values[index].places:
                if not fold.condemned >> pack & 1:
                    fold.places.setdefault(chunk, []).append(pack)
        return fold

    @property
    def claimed(self) -> int:
        """Packs that a claim names."""
        mask = 0
        for packs in self.claims.values():
            mask |= packs
        return mask

    @property
    def remembered(self) -> int:
        """Condemned names that a summary still has when it leaves out what is swept."""
        return self.condemned & ~self.swept

    def _apply(self, record: Record) -> None:
        match record:
            case Snapshot():
                self._commit(record)
            case Forgotten():
                self.live.discard(record.run)
            case Condemned():
                self._condemn(record)
            case Claimed():
                self.claims[record.run] = record.packs
            case Lapsed():
                self.claims.pop(record.run, None)
            case Swept():
                self.swept |= record.names
            case Torn():
                self.torn = True

    def _commit(self, record: Snapshot) -> None:
        self.times[record.run] = self.times.get(record.run, 0) + 1
        self.snapshots[record.run] = (record.chunks, record.manifest)
        self.live.add(record.run)
        self.claims.pop(record.run, None)
        if record.index >= 0:
            self.index.add(record.index)
            self.named |= _with_packs(record.index)
        self.named |= 1 << record.manifest

    def _condemn(self, record: Condemned) -> None:
        self.condemned |= record.names
        if record.absolute:
            self.index = set(bits(record.absolute))
        else:
            self.index -= set(bits(record.old))
        if record.new >= 0:
            self.index.add(record.new)
            self.named |= _with_packs(record.new)


def _with_packs(index: int) -> int:
    mask = 1 << index
    for _chunk, pack in NAMES.values[index].places:
        mask |= 1 << pack
    return mask


def first_objects(options: Options) -> Iterator[tuple[int, int]]:
    """Yield (record, mask of its objects) of each snapshot that is there at the start."""
    for number, contents in enumerate(options.initial):
        run = f"s{number}"
        packs = [NAMES(Name("pack", run, i, chunks)) for i, chunks in enumerate(contents)]
        chunks = tuple(sorted(chunk for content in contents for chunk in content))
        places = tuple((c, p) for p, content in zip(packs, contents, strict=True) for c in content)
        index = NAMES(Name("index", run, 0, places=places))
        manifest = NAMES(Name("manifest", run, 0, chunks))
        mask = 0
        for name in (*packs, index, manifest):
            mask |= 1 << name
        yield RECORDS(Snapshot(run, 0, chunks, index, manifest)), mask


def name_all(mask: int) -> str:
    """Name the objects of a mask."""
    return ", ".join(str(NAMES.values[number]) for number in bits(mask)) or "nothing"
