"""
The one exception tree.

Categories are chosen by what a handler does::

    LoopbackupError(Exception)
    |-- InputError(ValueError)            the caller can mend the argument
    |-- NotFoundError(LookupError)        snapshot, path, object, slot
    |-- AlreadyExistsError(FileExistsError)
    |-- CredentialError                   wrong passphrase or key
    |-- PolicyError                       refused by a rule; HoldActive, ErasureParked
    |-- InsecureTransport                 refused before the first byte
    |-- IncompleteBackup                  committed, but something is missing; ErasedSubject
    |-- IncompleteRestore                 what could be restored is; something could not
    |-- Cancelled                         the caller asked the verb to stop
    |-- ConflictError                     lost a race; a fresh read and another try is right
    |-- IntegrityError                    never retried; RollbackDetected, DamagedData
    |-- FormatError                       not ours, or NewerFormat
    |-- StoreError(OSError)               the storage back end
    `-- ErasureIncomplete                 what remains, where, until when, why

``str(error)`` holds ids, counts and what to do next; names and paths of
people's data stand in attributes and in ``context``, never in the text.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

__all__ = [
    "AlreadyExistsError",
    "Cancelled",
    "ConflictError",
    "CredentialError",
    "DamagedData",
    "ErasedSubject",
    "ErasureIncomplete",
    "ErasureParked",
    "FormatError",
    "HoldActive",
    "IncompleteBackup",
    "IncompleteRestore",
    "InputError",
    "InsecureTransport",
    "IntegrityError",
    "LoopbackupError",
    "NewerFormat",
    "NotFoundError",
    "PolicyError",
    "RollbackDetected",
    "StoreError",
]


class LoopbackupError(Exception):
    """
    Root of every error of this library.

    Args:
        message: One or two sentences for people, free of secrets and names.
        kind: A stable code that refines the class's own; programs may match it.
        context: Everything else; each key is also an attribute.
    """

    default_kind: ClassVar[str] = "error"
    kind: str
    context: dict[str, Any]

    def __init__(self, message: str = "", *, kind: str | None = None, **context: Any) -> None:
        super().__init__(message)
        self.kind = kind or self.default_kind
        self.context = context

    def __str__(self) -> str:
        # OSError's own __str__ would look for errno and strerror.
        return str(self.args[0]) if self.args else ""

    def __getattr__(self, name: str) -> Any:
        context = self.__dict__.get("context")
        if context is not None and name in context:
            return context[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.kind, dict(self.context))


def _rebuild(
    cls: type[LoopbackupError], message: str, kind: str, context: dict[str, Any]
) -> LoopbackupError:
    return cls(message, kind=kind, **context)


class InputError(LoopbackupError, ValueError):
    """An argument is wrong; the caller can mend it."""

    default_kind = "input"


class NotFoundError(LoopbackupError, LookupError):
    """No such snapshot, path, object or slot."""

    default_kind = "not_found"


class AlreadyExistsError(LoopbackupError, FileExistsError):
    """Something of that name stands there already; nothing was changed."""

    default_kind = "already_exists"


class CredentialError(LoopbackupError):
    """
    The credential opens nothing here; nothing was read.

    ``transient`` is true when a key service could not be asked.
    """

    default_kind = "credential"

    @property
    def transient(self) -> bool:
        """Whether the same call may work later without any change."""
        return bool(self.context.get("transient", False))


class PolicyError(LoopbackupError):
    """
    A rule refused the action; ``decision`` holds the trace.

    Never an OSError, so that no retry loop retries a refusal.
    """

    default_kind = "refused"

    @property
    def decision(self) -> Any:
        """The :class:`loopbackup.terms.Decision`, or None."""
        return self.context.get("decision")


class HoldActive(PolicyError):
    """A legal hold stands against the action; ``hold`` names it."""

    default_kind = "hold"

    @property
    def hold(self) -> Any:
        """The :class:`loopbackup.terms.Hold`."""
        return self.context.get("hold")


class ErasureParked(PolicyError):
    """An erasure waits; ``blocked_by`` lists what for."""

    default_kind = "parked"

    @property
    def blocked_by(self) -> tuple[Any, ...]:
        """What the erasure waits for."""
        return tuple(self.context.get("blocked_by", ()))


class InsecureTransport(LoopbackupError):
    """The connection would not be protected; refused before the first byte."""

    default_kind = "insecure_transport"


class IncompleteBackup(LoopbackupError):
    """
    The snapshot is committed, and something is missing from it.

    ``snapshot`` is the committed snapshot, ``problems`` what is missing.
    """

    default_kind = "incomplete"

    @property
    def snapshot(self) -> Any:
        """The committed :class:`loopbackup.Snapshot`."""
        return self.context.get("snapshot")

    @property
    def problems(self) -> tuple[Any, ...]:
        """What is missing, one :class:`loopbackup.terms.Problem` each."""
        return tuple(self.context.get("problems", ()))

    def __reduce__(self) -> tuple[Any, ...]:
        # A snapshot is a handle to an open vault; its id travels instead.
        context = dict(self.context)
        snapshot = context.pop("snapshot", None)
        context["snapshot"] = getattr(snapshot, "id", snapshot)
        return _rebuild, (type(self), str(self), self.kind, context)


class IncompleteRestore(LoopbackupError):
    """
    Everything that could be restored is; something could not.

    ``report`` counts both, ``problems`` says what is missing.
    """

    default_kind = "incomplete_restore"

    @property
    def problems(self) -> tuple[Any, ...]:
        """What is missing, one :class:`loopbackup.terms.Problem` each."""
        return tuple(self.context.get("problems", ()))


class Cancelled(LoopbackupError):
    """
    The verb stopped because its ``cancel`` was set.

    Of a backup nothing is committed, and the next run of it reuses what was
    uploaded. Of a restore everything written so far stays in the target.
    """

    default_kind = "cancelled"


class ErasedSubject(IncompleteBackup):
    """Items were left out because a fence stands against their subject."""

    default_kind = "erased"


class ConflictError(LoopbackupError):
    """Another writer was faster; a fresh read and another try is right."""

    default_kind = "conflict"


class IntegrityError(LoopbackupError):
    """Bytes are not what was written; never retried, never skipped."""

    default_kind = "integrity"


class RollbackDetected(IntegrityError):
    """The store shows an older or another history than one seen before."""

    default_kind = "rollback"


class DamagedData(IntegrityError):
    """An object is missing, cut short or altered; ``object`` names it, if it is one."""

    default_kind = "damaged"

    @property
    def object(self) -> str | None:
        """Name of the stored object."""
        found = self.context.get("object")
        return found if isinstance(found, str) else None

    @property
    def problems(self) -> tuple[Any, ...]:
        """What else is missing, one :class:`loopbackup.terms.Problem` each."""
        return tuple(self.context.get("problems", ()))


class FormatError(LoopbackupError):
    """These bytes are not of a vault of this library."""

    default_kind = "format"


class NewerFormat(FormatError):
    """Written by a newer library; this one must not touch it."""

    default_kind = "newer_format"


class StoreError(LoopbackupError, OSError):
    """
    The storage back end failed.

    ``transient``: the same call may work later. ``ambiguous``: whether the
    call took effect is unknown.
    """

    default_kind = "store"

    @property
    def transient(self) -> bool:
        """Whether the same call may work later."""
        return bool(self.context.get("transient", False))

    @property
    def ambiguous(self) -> bool:
        """Whether the outcome of the call is unknown."""
        return bool(self.context.get("ambiguous", False))


class ErasureIncomplete(LoopbackupError):
    """
    The erasure is not effective everywhere yet.

    ``receipt`` is signed for what is done; ``remaining`` lists the rest.
    """

    default_kind = "erasure_incomplete"

    @property
    def receipt(self) -> Any:
        """The signed :class:`loopbackup.terms.Receipt` of what is done."""
        return self.context.get("receipt")

    @property
    def remaining(self) -> tuple[Any, ...]:
        """What remains: what, where, until when, why."""
        return tuple(cast("tuple[Any, ...]", self.context.get("remaining", ())))
