"""What a vault says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from attrs import frozen

from ...show import html, text
from ...terms import Action, Actor
from ..format import names
from ..store.protocol import StoreInfo
from .locate import Whereabouts, whereabouts
from .look import Described, describe_all
from .replicas import Replica, list_replicas
from .session import Session, to_datetime

__all__ = ["Info", "Series", "SlotInfo", "run_info"]


@frozen
class Series:
    """One series of snapshots; ``size_bytes`` is that of its newest."""

    name: str
    snapshots: int
    newest_at: datetime
    size_bytes: int

    def __str__(self) -> str:
        newest = text.moment(self.newest_at)
        size = text.size(self.size_bytes)
        found = text.count(self.snapshots, "snapshot")
        return f"{self.name!r}: {found}, newest {newest}, {size}"


@frozen
class SlotInfo:
    """One credential that opens the vault: its id and kind; never anything secret."""

    id: str
    kind: str


@frozen(repr=False)
class Info:
    """What a vault says of itself, at one moment. Times are aware UTC."""

    id: str
    url: str
    """Without credentials."""
    format: int
    created_at: datetime
    location: Whereabouts
    """As declared, and as the provider said when he was last asked."""
    store: StoreInfo
    """What the store says now: transport, versions, locks, and what follows from them."""
    snapshots: int
    series: tuple[Series, ...]
    """By name."""
    records: int
    head: str
    freshness: str
    slots: tuple[SlotInfo, ...]
    subjects: int
    """How many have anything stored."""
    packs: int
    stored_bytes: int
    """All objects of the vault, condemned ones included."""
    alarms: int
    """Ledger records without effect."""
    is_replica: bool
    """This store is a copy: see :meth:`loopbackup.Vault.replicate`."""
    replicas: tuple[Replica, ...]
    """As the ledger knows them."""

    def _facts(self) -> list[tuple[str, str]]:
        slots = ", ".join(f"{slot.kind} {slot.id}" for slot in self.slots)
        facts = [
            ("id", self.id),
            ("url", self.url),
            ("format", str(self.format)),
            ("created", text.moment(self.created_at)),
            ("location", str(self.location)),
            *_of_store(self.store),
            ("snapshots", f"{self.snapshots:,}"),
            ("subjects", f"{self.subjects:,}"),
            ("stored", f"{text.size(self.stored_bytes)}, {text.count(self.packs, 'pack')}"),
            ("ledger", f"{text.count(self.records, 'record')}, {self.freshness}, head {self.head}"),
            ("slots", slots),
        ]
        facts += [("role", "a replica: read-only until promote")] if self.is_replica else []
        facts += [("replica", str(replica)) for replica in self.replicas]
        return facts + ([("alarms", f"{self.alarms:,}")] if self.alarms else [])

    def __str__(self) -> str:
        lines = [f"{name:<10} {value}" for name, value in self._facts()]
        lines += [f"{'series':<10} {series}" for series in self.series]
        return text.lines([*lines, *(f"{'note':<10} {note}" for note in self.store.findings)])

    def __repr__(self) -> str:
        return f"<Info of vault {self.id[:8]}, {text.count(self.snapshots, 'snapshot')}>"

    def _repr_html_(self) -> str:
        rows = [
            (s.name, f"{s.snapshots:,}", text.moment(s.newest_at), text.size(s.size_bytes))
            for s in self.series[: html.MAX_ROWS]
        ]
        columns = ("Series", "Snapshots>", "Newest", "Size>")
        table = html.Table("", columns, rows, len(self.series))
        return html.card(f"Vault {self.id[:8]}", self._facts(), *([table] if rows else []))


def run_info(session: Session, actor: Actor) -> Info:
    """
    Gather what a vault says of itself.

    Raises:
        PolicyError: Refused.

    Cost: one LIST of the whole store, what :meth:`.Store.describe` costs, the
    directories of the index.
    """
    session.begin(Action.READ, actor)
    state = session.log.state
    described = describe_all(session)
    nobody = (state.none_domain, session.keyring.meta.id)
    packs = stored = 0
    for stored_object in session.store.list(""):
        stored += stored_object.size_bytes
        packs += stored_object.key.startswith(names.PACKS)
    return Info(
        id=session.header.vault_id.hex(),
        url=session.url,
        format=session.header.format,
        created_at=to_datetime(session.header.created_us),
        location=whereabouts(state),
        store=session.store.describe(),
        snapshots=len(state.snapshots),
        series=_series(described),
        records=state.size,
        head=session.log.head,
        freshness="fresh" if session.log.fresh else "unknown",
        slots=tuple(SlotInfo(slot_id.hex(), kind) for slot_id, kind, _hash in state.slots),
        subjects=sum(domain_id not in nobody for domain_id in session.index.domain_ids(state)),
        packs=packs,
        stored_bytes=stored,
        alarms=len(state.alarms),
        is_replica=session.log.is_replica,
        replicas=list_replicas(session),
    )


def _of_store(store: StoreInfo) -> list[tuple[str, str]]:
    """Give what the store says; nothing of one that is a folder of this machine."""
    facts = [
        ("transport", None if store.transport is None else str(store.transport)),
        ("versions", store.versioning),
        ("locks", store.locks),
        ("kept", store.soft_delete_days and f"deleted bytes for {store.soft_delete_days} days"),
    ]
    return [(name, str(value)) for name, value in facts if value]


def _series(described: Iterable[Described]) -> tuple[Series, ...]:
    found: dict[str, list[Described]] = {}
    for snapshot in described:
        found.setdefault(snapshot.body.name, []).append(snapshot)
    return tuple(
        Series(name, len(group), to_datetime(group[0].body.created_us), group[0].body.size)
        for name, group in sorted(found.items())
    )
