"""From an error to an exit code and to lines that say what to do next."""

from __future__ import annotations

import os
import shlex
import subprocess
from enum import IntEnum

from ..errors import (
    Cancelled,
    ConflictError,
    CredentialError,
    FormatError,
    InputError,
    InsecureTransport,
    LoopbackupError,
    NewerFormat,
    PolicyError,
    RollbackDetected,
    StoreError,
)
from ..show.text import plain

__all__ = ["Exit", "exit_of", "explain"]


class Exit(IntEnum):
    """What the process says to its caller; docs/reference/cli.md fixes the numbers."""

    OK = 0
    INCOMPLETE = 1
    USAGE = 2
    CREDENTIAL = 3
    UNREACHABLE = 4
    NOT_THE_VAULT = 5
    REFUSED = 6
    FAULT = 70


_NOT_THE_VAULT = ("forged_vault", "unvouched")
_CODES: tuple[tuple[type[LoopbackupError], Exit], ...] = (
    (CredentialError, Exit.CREDENTIAL),
    (RollbackDetected, Exit.NOT_THE_VAULT),
    (PolicyError, Exit.REFUSED),
    (InputError, Exit.USAGE),
    (FormatError, Exit.UNREACHABLE),
    (StoreError, Exit.UNREACHABLE),
    (InsecureTransport, Exit.UNREACHABLE),
    (ConflictError, Exit.UNREACHABLE),
)


def exit_of(error: LoopbackupError) -> Exit:
    """Give the exit code of an error: what is neither said here is missing or damaged."""
    if error.kind in _NOT_THE_VAULT:
        return Exit.NOT_THE_VAULT
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.INCOMPLETE)


def explain(error: LoopbackupError) -> list[str]:
    """Give the lines for people: what is wrong, then what to do, each safe to print."""
    where = error.context.get("path")
    where = os.fsdecode(where) if isinstance(where, bytes) else where
    told = _in_options(str(error)) + (f": {where}" if where else "") + _cause(error)
    return [plain(told), *(f"  {plain(line)}" for line in _advice(error))]


def _in_options(text: str) -> str:
    """Say with options of the command line what the library says with its arguments."""
    for argument, option in _OPTION_OF.items():
        text = text.replace(argument, option)
    return text


_OPTION_OF = {
    " (.context names them)": "",
    " (.problems names what is missing)": "",
    "another state_dir=, or None to go without": "another --state-dir, or --no-state",
    "target_options": "--target-option",
    "storage_options": "--option",
    "public_key=": "--public-key",
    "public_key is": "--public-key is",
    "say whose: subject=": "say whose: --subject",
}


def _cause(error: LoopbackupError) -> str:
    """Say what the system or a command said, which a log must not hold and its user may see."""
    cause = error.__cause__
    if isinstance(cause, subprocess.CalledProcessError):
        return f" (exit status {cause.returncode})"
    if isinstance(cause, OSError) and cause.errno:
        reason = os.strerror(cause.errno)
        return "" if reason.lower() in str(error).lower() else f" ({reason})"
    return ""


def _advice(error: LoopbackupError) -> list[str]:
    names = error.context.get("names")
    if names:
        return [f"--name {shlex.quote(name)}" for name in names]
    if isinstance(error, Cancelled):
        return ["the same command with --overwrite changed goes on from there"]
    known = _BY_KIND.get(error.kind)
    if known is None and isinstance(error, NewerFormat):
        known = "install a newer loopbackup, and try again"
    if known is None and getattr(error, "transient", False):
        known = "try again later"
    if known is None and error.__cause__ is not None and not _cause(error):
        known = "--debug shows what is behind it"
    return [known] if known else []


_BY_KIND = {
    "no_vault": "give the folder or prefix in which the object named 'vault' lies: --vault URL",
    "credential": "see --passphrase-file, --passphrase-command and --key-file for other ways in",
    "forged_vault": "look for the true vault; what stands here was made by somebody else",
    "unvouched": "--public-key HEX names it; whoever runs the vault has it as vault.public_key",
    "rollback": (
        "look for a newer copy. To use this one, knowing that its end is missing: "
        "--no-state, and no --head"
    ),
    "fork": "look for the true copy. To use this one all the same: --no-state, and no --head",
    "another_vault": "if it was put there on purpose, name it once: --public-key HEX",
    "no_state_dir": "--no-state goes on without, and cannot tell an old copy from the newest",
    "state_unreadable": "--no-state goes on without, and cannot tell an old copy from the newest",
    "snapshot": "'loopbackup snapshots' lists those that there are",
    "path": "'loopbackup find SNAPSHOT PATTERN' looks in the whole snapshot",
    "same_path": "--subject says whose",
    "damaged": "'loopbackup check --data' says what is damaged; all else can be restored",
    "missing": "'loopbackup check --data' says what is missing; all else can be restored",
    "restricted": "it may be stored and nothing else until its restriction ends",
}
