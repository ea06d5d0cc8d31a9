"""Keeps encrypted, deduplicated snapshots; knows no rule and no law."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diff import Diff as Diff
    from .entry import Entry as Entry
    from .ledgerview import Ledger as Ledger
    from .ledgerview import LedgerEntry as LedgerEntry
    from .snapshot import BackupReport as BackupReport
    from .snapshot import Snapshot as Snapshot
    from .vault import Vault as Vault

__all__ = ["BackupReport", "Diff", "Entry", "Ledger", "LedgerEntry", "Snapshot", "Vault"]

_HOMES = {
    "diff": ("Diff",),
    "entry": ("Entry",),
    "ledgerview": ("Ledger", "LedgerEntry"),
    "snapshot": ("BackupReport", "Snapshot"),
    "vault": ("Vault",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
