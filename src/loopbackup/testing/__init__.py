"""Kits for tests: a vault in memory for hosts, suites and faults for plugin authors."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canary import find_canary as find_canary
    from .faults import Crashed as Crashed
    from .faults import FaultStore as FaultStore
    from .memory import memory_vault as memory_vault
    from .rules import RuleSuite as RuleSuite
    from .suite import StoreSuite as StoreSuite

__all__ = ["Crashed", "FaultStore", "RuleSuite", "StoreSuite", "find_canary", "memory_vault"]

_HOMES = {
    "Crashed": "faults",
    "FaultStore": "faults",
    "RuleSuite": "rules",
    "StoreSuite": "suite",
    "find_canary": "canary",
    "memory_vault": "memory",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if home in ("rules", "suite") and f"{__name__}.{home}" not in sys.modules:
            # Only with it do a suite's bare asserts say what they compared.
            import pytest

            pytest.register_assert_rewrite(f"{__name__}.{home}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
