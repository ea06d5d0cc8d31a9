"""What erasures that hold came to: whose marks they left, and what their receipts said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from attrs import frozen

from ...errors import InputError, StoreError
from ...logs import get_logger
from ...receipts import Receipt, Scope
from ...terms import SubjectKey
from ..format.names import KEYS
from ..keys.domains import DATA, RECORDS
from .receipt import PRIMARY, effective_by, proof_at, read_receipt
from .session import Session

__all__ = [
    "Erased",
    "check_scope",
    "delete_left",
    "erased_of",
    "gone_of",
    "known_of",
    "names_of",
    "proved",
    "statuses_of",
]

_STATUSES: Final[Mapping[Scope, frozenset[int]]] = {
    "data": frozenset({DATA}),
    "records": frozenset({RECORDS}),
    "all": frozenset({DATA, RECORDS}),
}


def check_scope(scope: object) -> Scope:
    """Give *scope* if it is one; InputError if not."""
    if scope not in get_args(Scope):
        raise InputError('scope is "data", "records" or "all"')
    return scope  # type: ignore[return-value]


def statuses_of(scope: Scope) -> frozenset[int]:
    """Give the kinds of domains that a scope takes."""
    return _STATUSES[scope]


@frozen
class Erased:
    """By which erasures subjects went: for each, the name of that of its data, of its records."""

    data: Mapping[SubjectKey, bytes]
    records: Mapping[SubjectKey, bytes]

    def of(self, subject: SubjectKey, statuses: Collection[int]) -> set[bytes]:
        """Give the erasures that took what a subject had of these kinds."""
        marks = [(DATA, self.data), (RECORDS, self.records)]
        return {
            found[subject] for status, found in marks if status in statuses and subject in found
        }

    def scope_of(self, erasure: bytes) -> Scope:
        """Say what an erasure took, of those who were looked for."""
        data, records = erasure in self.data.values(), erasure in self.records.values()
        return "all" if data and records else "records" if records else "data"


def erased_of(session: Session, keys: Iterable[SubjectKey]) -> Erased:
    """Look for the marks of *keys* in the keyring that counts."""
    keys = list(keys)
    return Erased(session.keyring.erasures(keys), session.keyring.records_erasures(keys))


def names_of(
    erased: Erased, keys: Iterable[SubjectKey], statuses: Collection[int]
) -> dict[SubjectKey, set[bytes]]:
    """Give, of those who were erased, the names of the erasures."""
    found = {key: erased.of(key, statuses) for key in keys}
    return {key: names for key, names in found.items() if names}


def known_of(session: Session, erasure: bytes, scope: Scope) -> dict[str, Any]:
    """
    Give what an erasure's receipt said, or, where there is none, what can still be told.

    Args:
        scope: What it took, if no receipt says so.
    """
    state = session.log.state
    found = state.erasures[erasure]
    receipt = read_receipt(session, found.receipt) if found.receipt >= 0 else None
    if receipt is not None:
        names = ("erasure", "scope", "reason", "domains", "before", "effective_by", "ledger")
        return {name: receipt.facts[name] for name in names}
    domains = (domain_id.hex() for domain_id, at in state.fenced.items() if at == found.record)
    return {
        "erasure": erasure.hex(),
        "scope": scope,
        "reason": None,
        "domains": sorted(domains),
        "before": None,
        "effective_by": effective_by(session),
        "ledger": None,
    }


def proved(session: Session, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """
    Join what is known of several erasures, the newest first, to the facts of one receipt.

    All records are proved under one head; of a single erasure the proof that its
    receipt had does.

    Cost: for several, or where no receipt was kept, the whole ledger is read.
    """
    first, *earlier = known
    ledger = first["ledger"]
    indices = [session.log.state.erasures[bytes.fromhex(each["erasure"])].record for each in known]
    if earlier or ledger is None:
        ledger = proof_at(session, indices)
    shown = [
        {**{name: each[name] for name in each if name != "ledger"}, "erased_at": record["at"]}
        for each, record in zip(known, ledger["records"], strict=True)
    ]
    return {**shown[0], "earlier": shown[1:], "ledger": ledger}


def delete_left(session: Session, receipt: Receipt) -> Iterator[tuple[str, datetime | None]]:
    """
    Delete once more what a receipt said that the vault's store kept; yield what it still keeps.

    No listing shows versions, so nothing else remembers them.
    """
    for place in receipt.facts["keys"]["destinations"]:
        for left in place["left"] if place["store"] == PRIMARY else ():
            name = left["object"]
            if name == KEYS:
                continue  # They could not be listed then.
            try:
                remains = session.store.delete(name)
            except StoreError as exc:
                get_logger().warning("an old key object cannot be deleted yet", kind=exc.kind)
                yield name, None
            else:
                if remains.versions:
                    yield name, remains.until


def gone_of(session: Session, names: Sequence[bytes]) -> dict[str, Any]:
    """Give what a receipt says besides where the bytes of all these erasures are gone as well."""
    found = [session.log.state.erasures[name] for name in names]
    if any(erasure.completed < 0 for erasure in found):
        return {}
    # Of several the one that was completed last speaks for all.
    receipt = read_receipt(session, max(erasure.completed for erasure in found))
    if receipt is None:
        return {}
    return {name: receipt.facts[name] for name in ("physical", "completes")}
