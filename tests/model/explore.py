"""Breadth-first search over all states of a model: a shortest counterexample, or their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from attrs import define, field, frozen

__all__ = ["Found", "Intern", "Model", "bits", "explore"]

S = TypeVar("S", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Model(Protocol[S]):
    """Something that can be explored."""

    @property
    def start(self) -> S:
        """The first state."""
        ...

    def successors(self, state: S) -> Iterator[tuple[str, S]]:
        """Yield what may happen next, in words, and the state after it."""
        ...

    def check(self, state: S) -> str | None:
        """Say what is wrong with a state; "(letter) of the property" comes first."""
        ...


@frozen
class Found:
    """What a search came to."""

    states: int
    steps: int
    complete: bool
    """Every state was seen, or a wrong one."""
    error: str | None = None
    trace: tuple[str, ...] = ()
    """The fewest steps to the error."""

    @property
    def letter(self) -> str:
        """The property that does not hold, or "ok"."""
        return "ok" if self.error is None else self.error.replace("source ", "")[1]


def explore(model: Model[S], *, max_states: int) -> Found:
    """Visit every state, nearest first, until one is wrong or none is left."""
    came_from: dict[S, tuple[S, str] | None] = {model.start: None}
    queue = deque([model.start])
    steps = 0
    error = model.check(model.start)
    if error:
        return Found(1, 0, True, error)
    while queue:
        state = queue.popleft()
        for label, after in model.successors(state):
            steps += 1
            if after in came_from:
                continue
            came_from[after] = (state, label)
            error = model.check(after)
            if error:
                return Found(len(came_from), steps, True, error, _trace(came_from, after))
            queue.append(after)
        if len(came_from) > max_states:
            return Found(len(came_from), steps, False)
    return Found(len(came_from), steps, True)


def _trace(came_from: dict[S, tuple[S, str] | None], state: S) -> tuple[str, ...]:
    labels: list[str] = []
    while (before := came_from[state]) is not None:
        state, label = before
        labels.append(label)
    return tuple(reversed(labels))


@define
class Intern(Generic[V]):
    """Value <-> small number, so that ledgers are tuples of numbers and sets of names are masks."""

    _ids: dict[V, int] = field(factory=dict)
    values: list[V] = field(factory=list)

    def __call__(self, value: V) -> int:
        """Give the number of a value, a new one if it has none."""
        number = self._ids.get(value)
        if number is None:
            number = self._ids[value] = len(self.values)
            self.values.append(value)
        return number


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
