"""A check beside others: what they move, delete or forget meanwhile is no damage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.stateful.processes import Process, Shared, still
from tests.stateful.world import Content, World, content

BIG: Content = {f"big-{number}": (content(100 + number, 30_000), None) for number in range(6)}
FEW: Content = {path: BIG[path] for path in ("big-0", "big-3")}


@pytest.fixture
def world() -> Iterator[World]:
    """A vault that sweeps at once, with one snapshot that is about to go and one that stays."""
    with still():
        world = World(Shared(grace_s=0))
        writer = world.process()
        writer.run(world.backup("old", BIG))
        writer.run(world.backup("kept", FEW))
        yield world
        world.close()


def begin_check(world: World, *, data: bool) -> Process:
    """Start a check, which stops before its first call."""
    checker = world.process()
    checker.begin(lambda vault: vault.check(data=data))
    return checker


def run_prune(world: World) -> None:
    """Forget the first snapshot, and prune until nothing is left to sweep."""
    pruner = world.process()
    pruner.run(world.forget(world.live()[0]))
    for _ in range(2):
        world.shared.clock.pass_time(1)
        pruner.run(world.prune)


def calls_of_a_check(*, data: bool) -> int:
    """Count the calls of a check that runs alone."""
    with still():
        world = World(Shared(grace_s=0))
        writer = world.process()
        writer.run(world.backup("old", BIG))
        writer.run(world.backup("kept", FEW))
        checker = begin_check(world, data=data)
        checker.finish()
        world.close()
        return len(checker.handle.calls)


@pytest.mark.parametrize("data", [False, True], ids=["structure", "data"])
def test_prune_beside_a_check_is_no_damage(*, data: bool) -> None:
    """Whatever call of the check it comes before."""
    for number in range(calls_of_a_check(data=data)):
        with still():
            world = World(Shared(grace_s=0))
            writer = world.process()
            writer.run(world.backup("old", BIG))
            writer.run(world.backup("kept", FEW))
            checker = begin_check(world, data=data)
            for _ in range(number):
                if checker.pending is not None:
                    checker.step()

            run_prune(world)
            report = checker.finish()

            assert report.problems == [], f"before call {number}"
            assert world.onlooker.log.state.distrusted == frozenset()
            world.check_quiet()
            world.close()


def test_damage_is_told_though_a_prune_runs_beside(world: World) -> None:
    """Looking anew excuses nothing that is really lost."""
    checker = begin_check(world, data=True)
    checker.until("get", "packs/*")
    packs = [key for key in world.shared.store._objects if key.startswith("packs/")]
    run_prune(world)
    kept = [key for key in world.shared.store._objects if key.startswith("packs/")]
    assert set(kept) != set(packs)
    for process in world.processes:
        process.after_call = lambda _method, _key: None
    for key in kept:
        world.shared.store.delete(key)

    report = checker.finish()

    assert not report.ok
    assert {p.object for p in report.problems} >= set(kept)
