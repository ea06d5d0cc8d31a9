"""The one nightly call: everything that is due, each duty for itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import frozen

from .errors import LoopbackupError
from .logs import get_logger
from .show import html, text

if TYPE_CHECKING:
    from .vault.vault import Vault

__all__ = ["Duty", "Maintained", "maintain"]

NIGHTLY: Final = timedelta(days=1)


@frozen
class Duty:
    """
    One thing that was due.

    Args:
        name: ``location``, ``retention``, ``prune``, ``replica``, ``alerts``.
        ok: Whether it was done.
        told: What came of it, or what kept it from being done.
        next_due_at: When it should be done again.
        error: What was raised, if anything was.
    """

    name: str
    ok: bool
    told: str
    next_due_at: datetime
    error: LoopbackupError | None = None

    def __str__(self) -> str:
        return f"{self.name:<10} {'' if self.ok else 'NOT DONE: '}{self.told}"


@frozen(repr=False)
class Maintained:
    """What a night brought: a duty after the other."""

    duties: tuple[Duty, ...]
    alerts: tuple[str, ...]
    """What somebody has to look at."""

    @property
    def ok(self) -> bool:
        """Whether all was done, and nobody has to look at anything."""
        return all(duty.ok for duty in self.duties) and not self.alerts

    @property
    def next_due_at(self) -> datetime:
        """When to call again."""
        return min(duty.next_due_at for duty in self.duties)

    def __str__(self) -> str:
        return text.lines([*map(str, self.duties), *(f"ALERT      {a}" for a in self.alerts)])

    def __repr__(self) -> str:
        undone = sum(not duty.ok for duty in self.duties)
        count = f"{len(self.duties)} duties, {undone} not done, {len(self.alerts)} alerts"
        return f"<Maintained, {count}>"

    def _repr_html_(self) -> str:
        facts = [(duty.name, ("" if duty.ok else "NOT DONE: ") + duty.told) for duty in self.duties]
        return html.card("Maintained", [*facts, *(("alert", alert) for alert in self.alerts)])


def maintain(vault: Vault) -> Maintained:
    """
    Do what is due: ask where the vault lies, retention, prune, replicas; and say what is wrong.

    Call it once a night, from as many processes as you like: each duty is safe beside itself and
    beside backups, and finds nothing to do where another was faster. One that fails keeps none of
    the others from being done. What a hold or a restriction blocked is taken up again when that
    has ended.

    Args:
        vault: Open, with an actor whom its policy lets ``check``, ``read``, ``forget``,
            ``prune`` and ``replicate``; and with the replicas that shall be brought up to
            date (``open(replicas=)``).

    Returns:
        A report: ``.ok``, ``.duties``, ``.alerts``, ``.next_due_at``. Of failures of this library
        nothing is raised; look at it.

    Raises:
        InputError: The vault is closed, or open for reading only.
    """
    vault.check_writable()
    duties = [
        _do(vault, "location", lambda: str(vault.locate())),
        _do(vault, "retention", lambda: str(vault.apply(vault.plan_retention()))),
        _do(vault, "prune", lambda: str(vault.prune())),
    ]
    for url in vault.given_replicas:
        duties.append(_do(vault, "replica", partial(_replicate, vault, url)))
    alerts: tuple[str, ...] = ()

    def look() -> str:
        nonlocal alerts
        alerts = vault.alerts()
        return text.count(len(alerts), "thing") + " to look at"

    duties.append(_do(vault, "alerts", look))
    return Maintained(tuple(duties), alerts)


def _replicate(vault: Vault, url: str) -> str:
    return str(vault.replicate(url))


def _do(vault: Vault, name: str, duty: Callable[[], str]) -> Duty:
    due = vault.now() + NIGHTLY
    try:
        return Duty(name, True, duty(), due)
    except LoopbackupError as exc:
        get_logger().error("a duty was not done", duty=name, kind=exc.kind)
        return Duty(name, False, str(exc), due, exc)
