"""What a commit is: an intent, its draft on a state, and creating the record and its lists."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from attrs import field, frozen

from ...errors import AlreadyExistsError, DamagedData, InputError, NotFoundError, StoreError
from ..format import names
from ..format import record as rec
from ..format.bounds import MAX_LIST_BYTES, MAX_RECORD_BYTES
from ..store.seam import StoreSeam
from .state import State

__all__ = [
    "LIST_MAGIC",
    "Body",
    "Draft",
    "Fresh",
    "Intent",
    "Rebuild",
    "Simple",
    "create_record",
    "inline_or_list",
    "put_list",
]

LIST_MAGIC: Final = b"LBKLST1"


@frozen
class Body:
    """A sealed body: whose key opens it, and its bytes."""

    key: str
    ref: bytes
    data: bytes


@frozen
class Draft:
    """What a record will say."""

    kind: str
    facts: rec.Facts
    bodies: Sequence[Body] = ()


@frozen
class Rebuild:
    """The state moved on: ``work`` runs outside the lock, then all is validated again."""

    work: Callable[[State], None]


class Intent(Protocol):
    """One logical commit, over as many attempts as it takes."""

    @property
    def commit_id(self) -> bytes:
        """Sixteen random bytes, the same over all attempts."""
        ...

    def validate(self, state: State) -> Draft | Rebuild | None:
        """
        Say what to commit on top of *state*; None when nothing is left to do.

        Raises:
            LoopbackupError: The commit must not be made.
        """
        ...


@frozen
class Simple:
    """An intent that holds whatever the state is."""

    draft: Draft
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft:
        """Give the draft."""
        return self.draft


@frozen
class Fresh:
    """An intent whose draft is made anew on every state that it meets."""

    make: Callable[[State], Draft | None]
    commit_id: bytes = field(factory=lambda: os.urandom(16))

    def validate(self, state: State) -> Draft | None:
        """Give what *make* gives."""
        return self.make(state)


def put_list(store: StoreSeam, payload: bytes) -> bytes:
    """
    Store a long list of names and give its hash; readable by every client.

    Raises:
        InputError: No client would read so long a list; nothing was stored.
    """
    data = LIST_MAGIC + os.urandom(16) + payload
    if len(data) > MAX_LIST_BYTES:
        raise InputError(f"a list of {len(data):,} bytes is more than a vault can name at once")
    digest = names.content_hash(data)
    store.put(names.list_name(digest), data)
    return digest


def inline_or_list(store: StoreSeam, joined: bytes, max_inline: int) -> tuple[bytes, bytes]:
    """Give (what stands in the record, hash of a list object); one of the two is empty."""
    return (joined, b"") if len(joined) <= max_inline else (b"", put_list(store, joined))


def create_record(store: StoreSeam, name: str, data: bytes) -> bool:
    """
    Create a record; True if it is ours, False if somebody else's stands there.

    Raises:
        StoreError: ``kind == "outcome_unknown"`` where the store does not say.
        DamagedData: Something that is no object has the name.
    """
    import tenacity

    told = True
    try:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(_transient),
            stop=tenacity.stop_after_attempt(8) | tenacity.stop_after_delay(90.0),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=10.0),
            reraise=True,
        ):
            with attempt:
                try:
                    store.create_once(name, data)
                except AlreadyExistsError:
                    told = False
                    try:
                        return store.get_whole(name, MAX_RECORD_BYTES) == data
                    except NotFoundError as exc:
                        # A folder of that name on a disk, say.
                        text = f"something that is no object lies in the place of {name}"
                        raise DamagedData(text, kind="unreadable", object=name) from exc
                except StoreError as exc:
                    if not exc.ambiguous:
                        raise
                    # The request or only its reply may be lost: the store decides.
                    told = False
                    try:
                        if store.get_whole(name, MAX_RECORD_BYTES) != data:
                            return False
                    except NotFoundError:
                        # What was cut off may still be on its way.
                        told = not exc.transient
                        raise exc from None
                    _make_durable(store, name, data)
                return True
    except StoreError as exc:
        if exc.transient or not told:
            raise StoreError(
                f"the store does not answer; whether {name} was written is unknown. "
                "The next opening will show it",
                kind="outcome_unknown",
                transient=True,
                ambiguous=True,
                object=name,
            ) from exc
        raise
    raise AssertionError("unreachable: the retry context returns or raises")


def _make_durable(store: StoreSeam, name: str, data: bytes) -> None:
    """
    Create an object that stands there once more: a store that says "taken" has it durably.

    What failed before may have been the very last step of a write, such as the
    sync of its folder, without which a loss of power takes the object.
    """
    with contextlib.suppress(AlreadyExistsError):
        store.create_once(name, data)


def _transient(exc: BaseException) -> bool:
    return isinstance(exc, StoreError) and exc.transient
