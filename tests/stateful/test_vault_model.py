"""
Several processes on one vault, call by call, with faults, against a model.

The model is a dict: what each committed snapshot holds. Every store call of
every verb is a step of its own, so that any two verbs interleave at any call;
crashes, lost requests and replies, late puts, torn writes and stale lists
strike at any of them.

More examples: ``pytest tests/stateful --hypothesis-profile=thorough --timeout=0``, ten minutes.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.stateful.processes import Shared, still
from tests.stateful.world import Content, World, content

from loopbackup.errors import LoopbackupError
from loopbackup.testing.faults import (
    Crash,
    Crashed,
    Delayed,
    Fault,
    LostRequest,
    LostResponse,
    Method,
    StaleList,
    Torn,
)
from loopbackup.vault.ledger import summary
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs import plan_prune, prune

PROCESSES = 3
GRACE_S = 3600
Stop: TypeAlias = int | tuple[Method, str]
STOPS: tuple[Stop, ...] = (
    0,
    1,
    2,
    4,
    8,
    ("put", "ledger/*"),
    ("put", "ledger/*"),
    ("put", "ledger/*"),
    ("put", "packs/*"),
    ("put", "index/*"),
    ("list", "*"),
    ("delete", "*"),
    ("get", "packs/*"),
    ("describe", "never"),
)
FAULTS: dict[str, tuple[Fault, ...]] = {
    "put": (
        Crash("before"),
        Crash("after"),
        LostRequest(),
        LostResponse(),
        Delayed(),
        Torn(0),
        Torn(100),
    ),
    "get": (Crash("before"), LostRequest(), LostResponse()),
    "delete": (Crash("before"), Crash("after"), LostRequest(), LostResponse()),
    "list": (Crash("before"), LostRequest(), StaleList(1), StaleList(3)),
    "describe": (),
}

# Few paths and few contents, so that runs share chunks; some are bundled, one
# is cut into several chunks, and three of the large ones fill a pack.
SIZES = (40, 700, 15_000, 20_000, 40_000)
Drawn: TypeAlias = dict[str, tuple[int, str | None]]
pieces = st.tuples(st.integers(0, 5), st.sampled_from([None, "user-42", "Acme AB"]))


@frozen
class Turn:
    """What happens next; a part that does not fit the state is left out."""

    aside: str
    """Something that needs no process."""
    which: int
    verb: str
    """What the process begins if it is idle."""
    drawn: Drawn
    number: int
    stop: Stop
    """How far it goes otherwise."""
    fault: int
    """What strikes its next call; nothing, mostly."""


turns = st.builds(
    Turn,
    aside=st.sampled_from([""] * 24 + ["land", "second", "half", "grace", "quiet"]),
    which=st.integers(0, PROCESSES - 1),
    verb=st.sampled_from(
        ["backup"] * 5 + ["prune"] * 4 + ["forget"] * 3 + ["read", "reopen", "rotate"]
    ),
    drawn=st.dictionaries(st.sampled_from("abcdefg"), pieces, min_size=1, max_size=7),
    number=st.integers(0, 11),
    stop=st.sampled_from(STOPS),
    fault=st.integers(0, 63),
)


def make(drawn: Drawn) -> Content:
    """Turn what was drawn into items."""
    return {
        path: (content(number, SIZES[number % len(SIZES)]), subject)
        for path, (number, subject) in drawn.items()
    }


def rotate(vault: Vault) -> None:
    """Change all keys."""
    vault.keys.rotate()


class VaultMachine(RuleBasedStateMachine):
    """Whatever the processes do to each other, what is committed stays whole."""

    @initialize(grace=st.sampled_from([0, 0, GRACE_S]))
    def create(self, grace: int) -> None:
        """Make the vault and start the processes."""
        self.stack = ExitStack()
        self.stack.enter_context(still())
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        # So that a short history has summaries, merges and rewritten tails.
        patch.setattr(summary, "SUMMARY_EVERY", 12)
        patch.setattr(prune, "MANY_SEGMENTS", 4)
        patch.setattr(plan_prune, "MANY_TAILS", 3)
        self.folder = Path(tempfile.mkdtemp(prefix="loopbackup-model-"))
        self.stack.callback(shutil.rmtree, self.folder)
        self.world = World(Shared(grace_s=grace))
        self.stack.callback(self.world.close)
        self.processes = [self.world.process() for _ in range(PROCESSES)]

    def teardown(self) -> None:
        """Let all come to rest, check everything, end what still runs."""
        if hasattr(self, "processes"):
            with self.stack:
                self.quieten()

    @rule(turn=turns)
    def turn(self, turn: Turn) -> None:
        """Let one process begin something or go on, perhaps struck by a fault."""
        self.happen(turn.aside)
        process = self.processes[turn.which]
        if not process.busy:
            self.begin(turn)
        elif process.pending is not None:
            faults = FAULTS[process.pending[0]]
            fault = faults[turn.fault] if turn.fault < len(faults) else None
            if isinstance(fault, Torn) and process.pending[1].startswith("ledger/"):
                self.world.torn = True
            process.step(fault)
            if isinstance(turn.stop, int):
                for _ in range(turn.stop):
                    if process.pending is not None:
                        process.step()
            else:
                process.until(*turn.stop)
        self.look_at(turn.which)

    def happen(self, what: str) -> None:
        """Let something happen that needs no process."""
        match what:
            case "land":
                # The delayed puts of all processes, of dead ones too.
                for process in self.world.processes:
                    process.handle.release()
            case "second":
                self.world.shared.clock.pass_time(1)
            case "half":
                self.world.shared.clock.pass_time(GRACE_S / 2)
            case "grace":
                self.world.shared.clock.pass_time(GRACE_S + 1)
            case "quiet":
                self.quieten()

    def begin(self, turn: Turn) -> None:
        """Begin a verb."""
        process, live = self.processes[turn.which], self.world.live()
        match turn.verb:
            case "backup":
                series = "mail" if turn.number % 2 else "files"
                process.begin(self.world.backup(series, make(turn.drawn)))
            case "prune":
                process.begin(self.world.prune)
            case "forget" if live:
                process.begin(self.world.forget(live[turn.number % len(live)]))
            case "read" if live:
                process.begin(self.world.read(live[turn.number % len(live)]))
            case "rotate":
                process.begin(rotate)
            case "reopen":
                process.session.close()
                self.restart(turn.which, remember=turn.number % 2 == 0)

    def quieten(self) -> None:
        """Let every verb finish alone, then check everything."""
        for which, process in enumerate(list(self.processes)):
            process.until("describe", "never")
            self.look_at(which)
        self.world.check_quiet()

    def restart(self, which: int, *, remember: bool = False) -> None:
        """Put a fresh process in the place of an old one."""
        self.processes[which] = self.world.process(state_dir=self.folder if remember else None)

    def look_at(self, which: int) -> None:
        """Look at how a verb ended, if it did."""
        process = self.processes[which]
        if process.busy or process.error is None:
            return
        error, process.error = process.error, None
        if isinstance(error, Crashed):
            self.restart(which)
        elif isinstance(error, AssertionError) or not isinstance(error, LoopbackupError):
            raise error

    # ---- what must hold

    @invariant()
    def holds(self) -> None:
        """Check what must hold at every state."""
        if hasattr(self, "world"):
            self.world.check_state()


# As many examples as the profile says, of enough steps for several verbs each.
TestVault = VaultMachine.TestCase
TestVault.settings = settings(settings.default, stateful_step_count=60)
