"""What the model of erasure is about: key objects, epochs, records and their fold."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

from attrs import define, field, frozen
from tests.model.explore import Intern

__all__ = [
    "RECORDS",
    "TWIN",
    "Epoch",
    "EraseOptions",
    "Fold",
    "Key",
    "KeyObject",
    "Objects",
    "Record",
    "is_taken",
    "keys_in",
    "parts_of",
    "root_of",
]

Key: TypeAlias = tuple[int, int]
"""A domain and its incarnation."""
Epoch: TypeAlias = int | str
KeyObject: TypeAlias = tuple[Any, ...]
"""Kind (root, slot, shard, tomb or anchor), epoch, and what it holds."""
Objects: TypeAlias = frozenset[KeyObject]

TWIN: Final = 100
"""The incarnation of a subject's second domain, made in a lost race."""


@frozen(kw_only=True)
class EraseOptions:
    """A case; defaults are the corrected design with announced epochs."""

    actors: tuple[tuple[str, int], ...] = (("erase", 1), ("write", 1))
    crashes: int = 1
    fence_check: Literal["none", "erased-now", "incarnation"] = "incarnation"
    """What a commit asks: is the domain erased now, or is it the one whose keys I hold?"""
    new_incarnation: bool = True
    """Readmission makes new keys; False: it only lifts the fence."""
    epoch_names: Literal["unique", "next"] = "unique"
    announce: bool = True
    """An epoch is announced in the ledger before its objects are written."""
    validate_epoch: bool = True
    validate_add: bool = True
    delete: Literal["base", "condemned", "committed"] = "condemned"
    """Which epochs go: the one replaced, all announced, or all that were ever current."""
    salt: bool = False
    """Slots mix a salt of the epoch's record, so that uncommitted epochs open nothing."""
    tomb: bool = True
    """The root's name is overwritten, not deleted."""
    slots_first: bool = True
    replica_first: bool = True
    """The new epoch is on the replica before the old one goes there."""
    anchor: Literal["none", "number", "epoch"] = "none"
    fence_by: Literal["ids", "tag"] = "tag"
    progress: bool = True
    use_replica: bool = True
    opener: Literal["ledger", "tomb", "any"] = "tomb"
    """Which epoch an opener of the replica takes."""


class Record(NamedTuple):
    """What the ledger says, by kind; see :meth:`Fold._apply`."""

    kind: str
    key: Key = (0, 0)
    epoch: Epoch = 0
    who: int = -1


RECORDS: Intern[Record] = Intern()


@define
class Fold:
    """What a ledger says."""

    options: EraseOptions
    fenced: set[Key] = field(factory=set)
    ever_fenced: set[Key] = field(factory=set)
    incarnations: dict[int, int] = field(factory=lambda: {1: 0, 2: 0})
    current: Epoch = 0
    announced: list[Epoch] = field(factory=lambda: [0])
    committed: list[Epoch] = field(factory=lambda: [0])
    condemned: list[Epoch] = field(factory=list)
    keys: set[Key] = field(factory=lambda: {(1, 0), (2, 0)})
    """What the current epoch must hold."""
    data: list[Key] = field(factory=list)
    """Under which keys data are committed."""
    receipts: set[Key] = field(factory=set)
    builders: dict[Epoch, int] = field(factory=dict)
    twins: set[Key] = field(factory=set)
    error: str | None = None

    def apply(self, record: Record) -> None:
        """Fold one record."""
        key = record.key
        match record.kind:
            case "data":
                self._commit(key)
            case "fence":
                self._fence(key)
            case "lift":
                self.fenced.discard(key)
            case "domain":
                self.incarnations[key[0]] = key[1]
                self.keys.add(key)
            case "twin":
                self.twins.add(key)
                self.keys.add(key)
            case "announce":
                self.announced.append(record.epoch)
            case "epoch":
                self._change(record)
            case "receipt":
                self.receipts.add(key)

    def _commit(self, key: Key) -> None:
        known = key in self.ever_fenced or (key[1] == TWIN and (key[0], 0) in self.ever_fenced)
        if known:
            self.error = f"(c) data of {key} are committed, fenced earlier"
        self.data.append(key)

    def _fence(self, key: Key) -> None:
        self.fenced.add(key)
        self.ever_fenced.add(key)
        self.keys.discard(key)
        for twin in [twin for twin in self.twins if twin[0] == key[0]]:
            self.fenced.add(twin)
            self.keys.discard(twin)

    def _change(self, record: Record) -> None:
        base, self.current = self.current, record.epoch
        self.builders[record.epoch] = record.who
        if record.epoch not in self.announced:
            self.announced.append(record.epoch)
        gone = {"condemned": self.announced, "committed": self.committed, "base": [base]}
        for epoch in gone[self.options.delete]:
            if epoch != record.epoch and epoch not in self.condemned:
                self.condemned.append(epoch)
        self.committed.append(record.epoch)


def root_of(objects: Objects, epoch: Epoch) -> KeyObject | None:
    """Give the root of an epoch, if it lies there."""
    return next((x for x in objects if x[0] == "root" and x[1] == epoch), None)


def is_taken(objects: Objects, epoch: Epoch) -> bool:
    """Tell whether the name of an epoch's root is taken."""
    return any(x[0] in ("root", "tomb") and x[1] == epoch for x in objects)


def keys_in(objects: Objects, epoch: Epoch) -> frozenset[Key]:
    """Give the domain keys that whoever opens an epoch comes to."""
    root = root_of(objects, epoch)
    if root is None:
        return frozenset()
    keys: frozenset[Key] = root[2]
    return keys | {x[2] for x in objects if x[0] == "shard" and x[1] == epoch}


def parts_of(objects: Objects, epoch: Epoch) -> Objects:
    """Give slots and shards of an epoch."""
    return frozenset(x for x in objects if x[1] == epoch and x[0] in ("slot", "shard"))
