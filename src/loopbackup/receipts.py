"""
Receipts of erasures: signed, and verified offline with a public key alone.

A receipt is canonical JSON (RFC 8785) with an Ed25519 signature of the vault's
authority (RFC 8032). It names nobody: the subject is bound by
``SHA-256(opening || name)``, and the 32 random bytes of the opening are given to
whoever asked for the erasure and to nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, cast, get_args

from attrs import field, frozen

from .errors import FormatError, InputError, IntegrityError, NewerFormat
from .terms import Subject, SubjectKey, subject_key

__all__ = ["Level", "Receipt", "Scope", "Stage", "canonical_json", "subject_ref"]

Level = Literal["P", "E0", "E1", "E2"]
Stage = Literal["keys_destroyed", "completed"]
Scope = Literal["data", "records", "all"]
"""What of somebody is erased: what was backed up, what registers say, or both."""
FORMAT: Final = "loopbackup-receipt-1"
MAX_RECEIPT_BYTES: Final = 64 << 20
_LABEL: Final = b"loopbackup/v1/receipt\0"
_MAX_INT: Final = 2**53 - 1
"""Beyond it JSON numbers are not exact everywhere (RFC 8785, 3.2.2.3)."""
_OPENING_BYTES: Final = 32


def canonical_json(value: Any) -> bytes:
    """
    Encode *value* as RFC 8785 says, for values that need none of its rules on numbers.

    Raises:
        InputError: It holds a float, an integer beyond 2^53, a key that is not
            ASCII, or anything that JSON does not have.
    """
    _check(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InputError("a receipt cannot hold surrogates, which are no text") from exc


def _check(value: Any) -> None:
    match value:
        case None | bool() | str():
            pass
        case int():
            if abs(value) > _MAX_INT:
                raise InputError("a receipt cannot hold integers beyond 2^53")
        case list() | tuple():
            for item in value:
                _check(item)
        case dict():
            for key, item in value.items():
                # Sorted by code points, keys would differ from UTF-16 order beyond the BMP.
                if not isinstance(key, str) or not key.isascii():
                    raise InputError("the keys of a receipt are ASCII text")
                _check(item)
        case _:
            raise InputError(f"a receipt cannot hold {type(value).__name__}")


def subject_ref(subject: Subject, opening: bytes) -> str:
    """
    Bind a subject: SHA-256 of the 32-byte opening and the canonical JSON of its parts, as hex.

    Without the opening nobody can test a guessed name.
    """
    if len(opening) != _OPENING_BYTES:
        raise InputError("an opening has 32 bytes, as Receipt.openings gives them")
    name = canonical_json(list(subject_key(subject)))
    return hashlib.sha256(opening + name).hexdigest()


def _copied(value: Mapping[Any, Any]) -> dict[Any, Any]:
    return dict(value)


@frozen
class Receipt:
    """
    What an erasure did, how far it holds, and what it cannot do.

    Args:
        facts: What is signed; the attributes below read from it. The contents
            are listed in ``docs/reference/receipt.md``.
        signature: Ed25519 of the vault's authority over the canonical JSON.
        openings: For each subject the random bytes that bind its name. Secret:
            give each to its requester only. Not part of what is saved, and
            empty in a receipt that was loaded.

    A value: comparing two compares what is signed.
    """

    facts: Mapping[str, Any] = field(converter=_copied)
    signature: bytes
    openings: Mapping[SubjectKey, bytes] = field(
        factory=dict, converter=_copied, eq=False, repr=False
    )

    @property
    def level(self) -> Level:
        """
        What the erasure holds against, of the subject that is worst off.

        ``E0`` gone for whoever reads the vault now; ``E1`` for a thief of old
        copies of the store too, without a credential; ``E2`` with every current
        credential too; ``P`` physical removal only.
        """
        return cast(Level, self.facts["level"])

    @property
    def stage(self) -> Stage:
        """``keys_destroyed``, or ``completed`` once the bytes are gone too."""
        return cast(Stage, self.facts["stage"])

    @property
    def scope(self) -> Scope:
        """What of the subjects the newest erasure took: ``data``, ``records`` or ``all``."""
        return cast(Scope, self.facts["scope"])

    @property
    def irrevocable_at(self) -> datetime | None:
        """When the last copy of a key is gone from the store; None while nobody can say."""
        value = self.facts["irrevocable_at"]
        return None if value is None else datetime.fromisoformat(value)

    @property
    def effective_by(self) -> datetime:
        """
        From when on no process that uses this library reads with the keys any more.

        Also one that had the vault open for reading, or a file of the subject; aware UTC.
        """
        return datetime.fromisoformat(self.facts["effective_by"])

    @property
    def limits(self) -> Sequence[str]:
        """What the erasure cannot do, a sentence each."""
        return tuple(self.facts["limits"])

    @property
    def subjects(self) -> Sequence[str]:
        """The bound names, see :func:`subject_ref`; in the order of the request."""
        return tuple(subject["ref"] for subject in self.facts["subjects"])

    def concerns(self, subject: Subject, opening: bytes) -> bool:
        """
        Tell whether this receipt is about *subject*.

        Args:
            subject: As the host names it.
            opening: From :attr:`openings` of the receipt as ``erase_subjects`` gave it.
        """
        return subject_ref(subject, opening) in self.subjects

    @property
    def head(self) -> str:
        """
        The head of the ledger in which the erasure is proved, as ``Vault.head`` gives heads.

        A witness who keeps it can hold it against the ledger later.
        """
        return f"{self.facts['ledger']['size']}:{self.facts['ledger']['root']}"

    def verify(self, public_key: str) -> None:
        """
        Verify signature and proofs; needs no vault, no network and no key but this.

        What the operator of the vault signs about his own ledger is no evidence
        against himself: that takes a :attr:`head` that somebody else has kept.

        Args:
            public_key: :attr:`loopbackup.Vault.public_key`, kept by whoever verifies.

        Raises:
            IntegrityError: Altered, signed by somebody else, or its record is
                not in the ledger of its head.
            InputError: *public_key* is none.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        except (TypeError, ValueError) as exc:
            raise InputError("a public key is 64 hex digits: Vault.public_key") from exc
        try:
            key.verify(self.signature, _LABEL + canonical_json(_plain(self.facts)))
        except InvalidSignature:
            raise IntegrityError(
                "the receipt was altered, or signed by another vault", kind="signature"
            ) from None
        if self.facts["authority"] != public_key.lower():
            raise IntegrityError("the receipt names another vault", kind="signature")
        ledger = self.facts["ledger"]
        size, root = ledger["size"], bytes.fromhex(ledger["root"])
        for record in ledger["records"]:
            proof = [bytes.fromhex(step) for step in record["proof"]]
            leaf = bytes.fromhex(record["leaf"])
            if not _is_included(leaf, record["index"], size, proof, root):
                raise IntegrityError("a proof of the receipt does not verify", kind="proof")

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write what is signed, with the signature, as one line of JSON.

        The openings are not written. Replaces what stands there.
        """
        Path(path).write_bytes(self.to_json())

    def to_json(self) -> bytes:
        """Give what :meth:`save` writes."""
        return canonical_json({"receipt": _plain(self.facts), "signature": self.signature.hex()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """
        Read a receipt; nothing is verified yet.

        Raises:
            FormatError: It is none; NewerFormat when it is of a newer library.
            NotFoundError: There is no such file.
        """
        from .errors import NotFoundError

        try:
            with open(path, "rb") as file:
                data = file.read(MAX_RECEIPT_BYTES + 1)
        except FileNotFoundError as exc:
            raise NotFoundError("there is no receipt", path=str(path)) from exc
        except (OSError, ValueError) as exc:
            raise FormatError("no receipt can be read there", path=str(path)) from exc
        return cls.from_json(data)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what :meth:`to_json` gave; see :meth:`load`."""
        try:
            if len(data) > MAX_RECEIPT_BYTES:
                raise ValueError("over-long")
            outer = json.loads(data)
            facts, signature = outer["receipt"], bytes.fromhex(outer["signature"])
            kind = facts["format"]
            canonical_json(facts)
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise FormatError("this is no receipt of loopbackup") from exc
        if kind != FORMAT:
            if isinstance(kind, str) and kind.startswith("loopbackup-receipt-"):
                raise NewerFormat("this receipt is of a newer loopbackup; update it")
            raise FormatError("this is no receipt of loopbackup")
        receipt = cls(facts, signature)
        try:
            _check_shape(receipt)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            raise FormatError("this receipt lacks something, or holds what it should not") from exc
        return receipt

    @classmethod
    def sign(
        cls,
        facts: Mapping[str, Any],
        authority_key: bytes,
        openings: Mapping[SubjectKey, bytes],
    ) -> Self:
        """Sign *facts* with the vault's authority; the library's own use."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        signature = Ed25519PrivateKey.from_private_bytes(authority_key).sign(
            _LABEL + canonical_json(_plain(facts))
        )
        return cls(facts, signature, openings)

    def __str__(self) -> str:
        count = len(self.subjects)
        who = "1 subject" if count == 1 else f"{count:,} subjects"
        when = self.facts["erased_at"]
        return f"{who} erased at {when}: level {self.level}, {self.stage.replace('_', ' ')}"

    def _repr_html_(self) -> str:
        from .show import html

        facts = [
            ("subjects", f"{len(self.subjects):,}"),
            ("erased at", self.facts["erased_at"]),
            ("level", self.level),
            ("stage", self.stage.replace("_", " ")),
            ("effective by", self.facts["effective_by"]),
            ("irrevocable at", self.facts["irrevocable_at"] or "not known"),
            *(("limit", limit) for limit in self.limits),
        ]
        return html.card("Receipt of an erasure", facts)


def new_opening() -> bytes:
    """Choose the random bytes that bind a subject's name."""
    return os.urandom(_OPENING_BYTES)


def _plain(value: Any) -> Any:
    """Give *value* with plain dicts and lists, however it is wrapped."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _check_shape(receipt: Receipt) -> None:
    """Read everything that the properties and ``verify`` read."""
    facts, ledger = receipt.facts, receipt.facts["ledger"]
    for listed in (facts["limits"], facts["subjects"], facts["earlier"], ledger["records"]):
        if not isinstance(listed, list):
            raise TypeError("lists are lists")
    if receipt.level not in get_args(Level) or receipt.stage not in get_args(Stage):
        raise ValueError("unknown level or stage")
    if receipt.scope not in get_args(Scope):
        raise ValueError("unknown scope")
    texts = [facts["authority"], facts["erased_at"], ledger["root"], *receipt.limits]
    texts += receipt.subjects
    for record in ledger["records"]:
        texts += [record["leaf"], *record["proof"]]
        if not isinstance(record["index"], int):
            raise TypeError("an index is a number")
    if not all(isinstance(text, str) for text in texts) or not isinstance(ledger["size"], int):
        raise TypeError("texts are text, sizes are numbers")
    times = [receipt.effective_by, receipt.irrevocable_at]
    if any(moment is not None and moment.tzinfo is None for moment in times):
        raise ValueError("times have zones")


def _is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Verify a proof of inclusion as RFC 9162, 2.1.3.2 says; *leaf* is a leaf hash."""
    if not 0 <= index < size:
        return False
    fn, sn, node = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and hmac.compare_digest(node, root)
