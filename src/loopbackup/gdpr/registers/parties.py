"""Parties, and the one among them who keeps the registers."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from ...errors import ConflictError, InputError
from .event import Event
from .records import KEEPER_ID, Party
from .register import OpenRegister

__all__ = ["KEEPERS", "Keeper", "Parties"]

Keeper = Literal["controller", "processor"]
KEEPERS: Final[tuple[Keeper, ...]] = ("controller", "processor")


class Parties(OpenRegister[Party]):
    """Whoever has a part in the processing (Art. 4(7) to (10), 30(1)(a))."""

    name = "parties"
    type = Party

    @property
    def keeper(self) -> Party | None:
        """Whose registers these are; None before that is recorded."""
        found: Party | None = self._journal.shelf(self._vault, self.name).current.get(KEEPER_ID)
        return found

    def keep(self, party: Party, role: Keeper) -> Party:
        """
        Record whose registers these are, once; the same again records nothing.

        Raises:
            InputError: Somebody else is recorded, or in the other role.
        """
        if not isinstance(party, Party):
            raise InputError(f"a {role} is a Party, not {type(party).__name__}")
        if party.subject is not None:
            raise InputError("whoever keeps the registers is nobody's subject; leave subject out")
        roles = tuple(dict.fromkeys((role, *party.roles)))
        if set(KEEPERS) <= set(roles):
            raise InputError("these registers are a controller's, or a processor's; not both")
        found = self.keeper
        if found is None:
            try:
                found = self._begin(attrs.evolve(party, roles=roles), record_id=KEEPER_ID)
            except ConflictError:  # Another process was faster, and may have said the same.
                found = self.get(KEEPER_ID)
        if role not in found.roles:
            raise InputError(f"these registers are recorded as those of another role than {role}")
        if (found.name, found.country) != (party.name, party.country):
            raise InputError(
                f"these registers are recorded as those of another {role}; "
                "if it has another name now, change the record: parties.change(parties.keeper)"
            )
        return found

    def begins_with(self, record_id: str | None) -> bool:
        """Tell whether a party may begin under that id: the keeper's, or a new one."""
        return record_id in (None, KEEPER_ID)

    def apply(self, old: Party | None, event: Event, actor: str | None) -> Party:
        """Give what an event makes of a party; who keeps the registers has a role for good."""
        if old is not None and old.id == KEEPER_ID and "roles" in event.fields:
            raise InputError("the role of whoever keeps the registers is recorded once")
        return super().apply(old, event, actor)
