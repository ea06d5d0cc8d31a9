"""
Claims: what an unfinished run has put and relies on, said in the ledger.

Prune leaves claimed packs alone, and the next run of the series takes them
over. Safety never rests on a claim: whoever commits checks everything against
what was condemned. So a claim that cannot be made costs work, and no run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import Final, Self

from attrs import define, field

from ...errors import LoopbackupError
from ...logs import get_logger
from ...terms import Action, Actor
from ..content.segment import read_front
from ..content.upload import Upload
from ..format import record as rec
from ..format import seal
from ..format.pack import PackDirectory, PackFront
from ..ledger.log import Draft, Fresh
from ..ledger.state import Claim, Front, State, join_fronts, join_names
from .session import Session

__all__ = ["Claimer", "claims_of", "lapse_claims", "series_tag", "stale_runs", "take_over"]

TICK_S: Final = 60.0
RENEW_S: Final = 300.0
"""A claim is made anew after so long, also where nothing was put."""
STALE_S: Final = 3 * RENEW_S
CLAIM_PACKS: Final = 32
"""What so many packs hold is not worth a record of its own: 1 GiB."""
NAMES_A_CLAIM: Final = 400


def series_tag(session: Session, name: str) -> bytes:
    """Give the 16 bytes by which the next run of a series finds the claims of this one."""
    context = session.header.vault_id + name.encode()
    return seal.derive(session.keyring.root.secrets.meta, "series", context, 16)


def claims_of(state: State, series: bytes) -> list[Claim]:
    """Give the claims of unfinished runs of a series."""
    return [claim for claim in state.claims.values() if claim.series == series]


def stale_runs(session: Session, state: State, series: bytes) -> list[bytes]:
    """Give the runs of a series that have said nothing for too long to be alive."""
    oldest_us = int((session.log.now().timestamp() - STALE_S) * 1_000_000)
    return [claim.run for claim in claims_of(state, series) if claim.at_us < oldest_us]


def lapse_claims(session: Session, actor: Actor) -> None:
    """Declare runs dead that have said nothing for as long as the grace."""
    for run in [
        run for run in session.log.state.claims if _silent(session, session.log.state, run)
    ]:
        session.log.commit(Fresh(partial(_lapse, session, actor, run)))


def _lapse(session: Session, actor: Actor, run: bytes, state: State) -> Draft | None:
    """Look once more: the run may have renewed its claim, or ended, since it was taken for dead."""
    if not _silent(session, state, run):
        return None
    return Draft("claim-lapsed", rec.RunEnded(run), [session.audit(actor, Action.PRUNE)])


def _silent(session: Session, state: State, run: bytes) -> bool:
    """Tell whether a claim was made longer than the grace from now, in either direction."""
    claim = state.claims.get(run)
    if claim is None:
        return False
    # A clock that is ahead says nothing of a claim's age, and would keep it for ever.
    apart_us = abs(int(session.log.now().timestamp() * 1_000_000) - claim.at_us)
    return apart_us > session.header.grace_s * 1_000_000


def take_over(session: Session, upload: Upload, series: bytes, executor: Executor) -> None:
    """
    Let a run use what unfinished runs of its series have put.

    Their claims stay until they are stale: one of them may be alive, and two
    runs may well name the same packs.

    Cost: one read of 256 KiB for each pack that no live segment names.
    """
    state = session.log.state
    claimed = {front for claim in claims_of(state, series) for front in claim.packs}
    if not claimed:
        return
    live = {pack.name for reader in session.index.segments(state) for pack in reader.packs}
    wanted = [f for f in claimed if f.name not in live and f.name not in state.condemned]

    def fetch(front: Front) -> tuple[PackFront, PackDirectory] | None:
        try:
            directory, found = read_front(
                session.store, session.keyring.index_secret, session.header.vault_id, *front
            )
        except LoopbackupError as exc:
            get_logger().warning("a claimed pack cannot be taken over", kind=exc.kind)
            return None
        assert isinstance(directory, PackDirectory)
        return found, directory

    for found in executor.map(fetch, sorted(wanted)):
        if found is None:
            continue
        try:
            upload.adopt(*found)
        except LoopbackupError as exc:
            # One person's keys or block may be damaged; the pack is left behind whole.
            get_logger().warning("a claimed pack cannot be taken over", kind=exc.kind)


@define(eq=False)
class Claimer:
    """
    Claims for one run, from its first full pack on; a context manager.

    A thread of its own renews the claim while the run is busy with something
    that puts no packs, such as one very slow file.
    """

    _session: Session
    _actor: Actor
    _upload: Upload
    _series: bytes
    _clock: Callable[[], float] = time.monotonic
    run: bytes = field(factory=lambda: os.urandom(16))
    _packs: int = 0
    """How many of the run's packs are claimed."""
    _at_s: float = field(init=False)
    _lock: threading.Lock = field(factory=threading.Lock)
    _stop: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def __attrs_post_init__(self) -> None:
        self._at_s = self._clock()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._keep, name="loopbackup-claim", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        while not self._stop.wait(TICK_S):
            self.tick()

    def tick(self) -> None:
        """Claim what was put since, or say that the run still lives."""
        with self._lock:
            waited = self._clock() - self._at_s
            fresh = len(self._upload.packs) > self._packs
            if (fresh and waited >= TICK_S) or waited >= RENEW_S:
                self._claim()

    def on_pack(self) -> None:
        """Claim after the first full pack, then after 1, 2, 4, ... 32, 32 more."""
        with self._lock:
            fresh = len(self._upload.packs) - self._packs
            if fresh >= max(1, min(self._packs, CLAIM_PACKS)):
                self._claim()

    def last(self) -> None:
        """Claim everything, for whoever takes the run up again."""
        with self._lock:
            if len(self._upload.packs) > self._packs:
                self._claim()

    def _claim(self) -> None:
        packs, relies = self._upload.packs, self._upload.relied_packs()
        try:
            self._name(packs, relies)
            if self._unnamed(packs, relies) != ([], []):
                # The claim was ended before this record: all that it had named is named anew.
                self._name(packs, relies)
        except LoopbackupError as exc:
            # Whatever is wrong with the ledger, the run's own commit will tell.
            get_logger().warning("a run could not be claimed", kind=exc.kind)
            return
        self._packs, self._at_s = len(packs), self._clock()

    def _unnamed(self, packs: list[Front], relies: set[bytes]) -> tuple[list[Front], list[bytes]]:
        """Give what the claim, as it stands in the ledger, does not name yet."""
        claim = self._session.log.state.claims.get(self.run)
        named = claim.names if claim is not None else frozenset()
        return [front for front in packs if front.name not in named], sorted(relies - named)

    def _name(self, packs: list[Front], relies: set[bytes]) -> None:
        for some_packs, some_names in _portions(*self._unnamed(packs, relies)):
            draft = partial(self._draft, some_packs, some_names)
            self._session.log.commit(Fresh(draft))

    def _draft(self, packs: list[Front], relies: list[bytes], _state: State) -> Draft:
        facts = rec.Claimed(self.run, self._series, join_fronts(packs), join_names(relies))
        return Draft("claim", facts, [self._session.audit(self._actor, Action.BACKUP)])


def _portions(packs: list[Front], relies: list[bytes]) -> Iterator[tuple[list[Front], list[bytes]]]:
    """Split what is to be claimed into records of a bounded size; at least one."""
    for at in range(0, max(len(packs), len(relies), 1), NAMES_A_CLAIM):
        yield packs[at : at + NAMES_A_CLAIM], relies[at : at + NAMES_A_CLAIM]
