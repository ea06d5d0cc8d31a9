"""The part of a vault's handle that has to do with its replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from ..errors import InputError
from ..terms import Location
from .looking import Looking

if TYPE_CHECKING:
    from .verbs.replicas import Replica
    from .verbs.replicate import Replicated

__all__ = ["Replicating"]


class Replicating(Looking):
    """What :class:`Vault` does with copies of itself in other stores."""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """
        Give the replicas that the ledger knows, as far as this handle has folded it.

        Nobody is asked, and nothing is recorded; :meth:`replicate` tells how things are.
        """
        from .verbs.replicas import list_replicas

        self._session.check_open()
        return list_replicas(self._session)

    @property
    def given_replicas(self) -> tuple[str, ...]:
        """URLs of the replicas that were given to :meth:`open`."""
        return tuple(self._session.replicas)

    @overload
    def replicate(
        self,
        url: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        location: str | Location | None = None,
    ) -> Replicated: ...

    @overload
    def replicate(self) -> tuple[Replicated, ...]: ...

    def replicate(
        self,
        url: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        location: str | Location | None = None,
    ) -> Replicated | tuple[Replicated, ...]:
        """
        Bring a copy of the vault in another store up to date; make it where nothing stands.

        Only what is new is copied, each object verified by its hash on the way.
        Killed or cut off anywhere, the next call goes on. The copy opens read-only at
        any moment, with the credentials of the vault, as the vault was at the
        end of the last replication that got through. What was condemned long enough ago is
        deleted from it, and the keys of those who were erased first of all. Where that
        leaves nothing of an erasure anywhere, its completed receipt is signed.

        What earlier calls have put there is taken to be there, as the ledger says: ``ok`` and
        "up to date" say nothing about what was lost at the copy since. Open it and
        :meth:`check` it for that, every week.

        Args:
            url: Where to; without one, to every replica that was given to :meth:`open`.
            storage_options: For its store; by default those that were given to :meth:`open`.
            location: Where its bytes lie, as you declare it; recorded. Needed where no
                provider can be asked, and held against what he says where one can.

        Returns:
            What was done; without *url* one of each replica.

        Raises:
            PolicyError: Refused; its store was not asked for anything.
            AlreadyExistsError: Something else stands there.
            InputError: The vault itself stands there, or a replica that was declared lost;
                or the store does not keep to exclusive create, or lies elsewhere than declared.
            RollbackDetected: Kind "fork": somebody has written to the replica.
            DamagedData: Some objects of the vault are damaged or missing; all else was
                replicated (``.report``).
            StoreError: A store failed; call it again.

        Cost: 6 requests to either store where nothing is new. Else one for each new object
        and record, and a delete for each that goes; a listing of the replica, a GET for each
        live segment of the index, and 20 more at most.
        Memory: 128 MiB in flight, the largest index object, and 100 bytes a pack.
        """
        from .verbs.replicas import stores_of
        from .verbs.replicate import run_replicate

        self._session.check_open()
        self._session.check_writable()
        if url is None:
            if not self._session.replicas:
                raise InputError("replicate needs a URL, or open(..., replicas={url: options})")
            return tuple(
                run_replicate(self._session, self._actor, one, open_, None)
                for one, open_ in self._session.replicas.items()
            )
        open_ = stores_of(self._session, url, storage_options)
        return run_replicate(self._session, self._actor, url, open_, location)

    def declare_lost(self, replica: str, *, reason: str) -> None:
        """
        Give up a replica for good: erasures wait for it no longer, and say so.

        What lies there, old keys included, is then out of the vault's hands: destroy it.

        Args:
            replica: Its URL or its id, as :attr:`replicas` has them.
            reason: Why; it stands in the ledger, sealed.

        Raises:
            NotFoundError: There is no such replica.
            PolicyError: Refused.
            InputError: The reason is empty, or several replicas have that URL.
        """
        from .verbs.replicas import run_declare_lost

        self._session.check_open()
        self._session.check_writable()
        run_declare_lost(self._session, self._actor, replica, reason)
