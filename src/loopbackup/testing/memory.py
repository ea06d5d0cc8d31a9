"""A vault in memory, for the unit tests of hosts: fast, and gone with the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime

from ..terms import Actor, Gate, StoredGate
from ..vault.keys.credentials import Seed
from ..vault.store.memory import MemoryStore
from ..vault.store.protocol import Store
from ..vault.vault import Vault
from ..vault.verbs.creation import create_vault
from ..vault.verbs.hosting import system_clock
from ..vault.verbs.opening import open_vault

__all__ = ["memory_vault", "open_memory_vault"]

SIZES = {
    "chunk_min": 4096,
    "chunk_max": 65_536,
    "chunk_t_cut": 24_019_198_012_642_645,
    "chunk_t_jump": 600_479_950_316_066_133,
    "pack_size": 1 << 20,
    "bundle_size": 65_536,
}
"""Small chunks and packs, so that small data take every path."""


def memory_vault(
    *,
    policy: Gate | None = None,
    actor: Actor | None = None,
    grace_s: int = 86_400,
    clock: Callable[[], datetime] = system_clock,
    store: Store | None = None,
    location: str | None = None,
) -> Vault:
    """
    Make and open a vault in memory, without the cost of a passphrase.

    Real in all else: the same format, ledger and checks as on disk, with
    smaller chunks and packs.

    Args:
        policy: A :class:`loopbackup.policy.Policy`, which is kept in the vault, or any other
            gate, which this handle asks before each action; allows all by default.
        actor: Who acts.
        grace_s: As for ``Vault.create``.
        clock: Gives aware datetimes.
        location: As for ``Vault.create``.
        store: Something else than memory, such as a ``FaultStore``.
    """
    store = store or MemoryStore(clock=clock)
    kept = policy if isinstance(policy, StoredGate) else None
    seed = Seed(os.urandom(32))
    create_vault(
        "memory://test",
        seed,
        storage_options=None,
        location=location,
        grace_s=grace_s,
        single_writer=True,
        clock=clock,
        store=store,
        sizes=SIZES,
        policy=kept,
        actor=actor,
    )
    gate = policy if kept is None else None
    return open_memory_vault(store, seed, policy=gate, actor=actor, clock=clock)


def open_memory_vault(
    store: Store,
    seed: Seed,
    *,
    policy: Gate | None = None,
    actor: Actor | None = None,
    clock: Callable[[], datetime] = system_clock,
    read_only: bool = False,
    replicas: Mapping[str, Callable[[], Store]] | None = None,
) -> Vault:
    """Open a vault in *store* a second time, as another process would; or a replica in it."""
    session = open_vault(
        "memory://test",
        seed,
        storage_options=None,
        actor=actor,
        read_only=read_only,
        head=None,
        clock=clock,
        state_dir=None,
        gate=policy,
        store=store,
        replicas=replicas,
    )
    return Vault(session, actor)
