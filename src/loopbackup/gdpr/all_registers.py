"""The registers of a vault, in one place: one verb set for all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from ..errors import InputError
from ..terms import Actor
from .registers.journal import Journal
from .registers.marks import Holds, Restrictions
from .registers.parties import Keeper, Parties
from .registers.plain import Activities, Disclosures, Notices, Recipients
from .registers.records import Party
from .requests.calendar import IsHoliday
from .requests.register import Requests

if TYPE_CHECKING:
    from .. import Vault

__all__ = ["Registers"]


def _system_clock() -> datetime:
    return datetime.now(UTC)


class Registers:
    """
    The registers that data-protection law asks for, kept in the ledger of a vault.

    Args:
        vault: Where; its actor acts, and its gate decides: ``record`` to write, ``audit`` to read.
        controller: Whose registers these are. Recorded at the first time, and
            found again later: by then it may be left out.
        processor: The same, of one who processes for others; instead of *controller*.
        is_holiday: Tells whether a day is a public holiday where the keeper is. Left out, the
            library ``holidays`` tells (extra ``gdpr``), by the keeper's country and subdivision.
        clock: Gives aware datetimes; for tests and demonstrations, as for ``Vault.open``.

    Thread-safe. Opening it reads nothing when neither party is given.

    Raises:
        InputError: Both are given; another one is recorded; or a field is not as it must be.
        PolicyError: Refused.

    Cost: the first look reads the whole ledger, one request and 0.1 ms a record; each
    later one what came since. Keep the object; :meth:`acting_as` gives it to somebody else.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        controller: Party | None = None,
        processor: Party | None = None,
        is_holiday: IsHoliday | None = None,
        clock: Callable[[], datetime] = _system_clock,
    ) -> None:
        if controller is not None and processor is not None:
            raise InputError("these registers are a controller's, or a processor's; not both")
        self._bind(vault, Journal(clock), is_holiday)
        party, role = (controller, "controller") if processor is None else (processor, "processor")
        if party is not None:
            self.parties.keep(party, role)  # type: ignore[arg-type]

    def _bind(self, vault: Vault, journal: Journal, is_holiday: IsHoliday | None) -> None:
        self._vault, self._journal, self._is_holiday = vault, journal, is_holiday
        self.parties = Parties(vault, journal)
        self.activities = Activities(vault, journal)
        self.recipients = Recipients(vault, journal)
        self.disclosures = Disclosures(vault, journal)
        self.notices = Notices(vault, journal)
        self.holds = Holds(vault, journal)
        self.restrictions = Restrictions(vault, journal)
        self.requests = Requests(vault, journal, is_holiday)

    @property
    def keeper(self) -> Party | None:
        """Whose registers these are; None before that is recorded."""
        return self.parties.keeper

    @property
    def role(self) -> Keeper | None:
        """What the keeper is: ``"controller"`` or ``"processor"``."""
        keeper = self.keeper
        if keeper is None:
            return None
        return "controller" if "controller" in keeper.roles else "processor"

    def acting_as(self, actor: Actor) -> Self:
        """Give these registers to another actor; what was read is shared."""
        view = type(self).__new__(type(self))
        view._bind(self._vault.acting_as(actor), self._journal, self._is_holiday)
        return view

    def __repr__(self) -> str:
        return f"<Registers in vault {self._vault.id[:8]}>"
