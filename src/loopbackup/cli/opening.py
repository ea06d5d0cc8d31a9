"""From the command line to an open vault: where it lies, what opens it, who asks."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import pwd
import shlex
import socket
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import loopbackup as lb

from .arguments import ENV_PASSPHRASE_FILE, ENV_VAULT
from .output import Output

__all__ = ["open_vault", "read_options"]

TRIES: Final = 3
"""How often a person may type the passphrase."""
_STDIN: Final = "/dev/stdin"


def open_vault(args: argparse.Namespace, output: Output) -> lb.Vault:
    """
    Open the vault that the command line names, read-only but with ``--record``.

    Raises:
        LoopbackupError: As :meth:`loopbackup.Vault.open` does; InputError also
            where the command line does not say which vault, or says it twice.
    """
    url = args.vault or os.environ.get(ENV_VAULT)
    if not url:
        raise lb.InputError(f"which vault? Give --vault URL, or set {ENV_VAULT}")
    if args.no_state and args.state_dir is not None:
        raise lb.InputError("--state-dir and --no-state exclude each other")
    options = read_options(args.options_file, (*args.options_before, *args.options))
    given: dict[str, Any] = {
        "storage_options": options,
        "actor": _actor(args.record),
        "read_only": args.record is None,
        "head": args.head,
        "public_key": args.public_key,
        "override": args.override,
    }
    if args.no_state:
        given["state_dir"] = None
    elif args.state_dir is not None:
        given["state_dir"] = args.state_dir
    vault = _opened(url, _credential(args), given, output)
    if vault.freshness == "unknown":
        output.note(
            "this machine has no memory of the vault and was given no --head: "
            "whether this is its newest copy cannot be told"
        )
    return vault


def _opened(
    url: str, key: lb.Credential | lb.Kms | None, given: dict[str, Any], output: Output
) -> lb.Vault:
    if key is not None:
        return _open(url, key, given, output)
    for _ in range(TRIES - 1):
        asked = _Asked()
        try:
            return _open(url, asked, given, output)
        except lb.CredentialError as exc:
            # Other kinds say that another passphrase would be no better.
            if exc.kind != "credential" or not asked.was_asked:
                raise
        output.warn("that is not the passphrase; try again")
    return _open(url, _Asked(), given, output)


def _open(url: str, key: lb.Credential | lb.Kms, given: dict[str, Any], output: Output) -> lb.Vault:
    try:
        return lb.Vault.open(url, key, **given)
    except lb.InputError as exc:
        if exc.kind != "no_state_dir" or "state_dir" in given or not _is_blank(exc.path):
            raise
    output.note("there is no place for a state directory here; going on without")
    return lb.Vault.open(url, key, **{**given, "state_dir": None})


def _is_blank(path: str) -> bool:
    """Tell whether nothing was ever kept beside *path*, so that no memory is passed over."""
    try:
        return next(Path(path).parent.iterdir(), None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _actor(reason: str | None) -> lb.Actor:
    number = os.getuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:
        user = f"uid {number}"
    return lb.Actor(user, purpose=reason, device=socket.gethostname())


# ---- what opens it


class _Asked:
    """A passphrase that a person is asked for when there is a slot to try it on, and not before."""

    kind = "passphrase"

    def __init__(self) -> None:
        self._passphrase: lb.Passphrase | None = None

    @property
    def was_asked(self) -> bool:
        """Whether anything was typed."""
        return self._passphrase is not None

    def new_params(self, context: Any = None) -> Any:
        """Choose parameters of a new slot."""
        return self._ask().new_params(context or {})

    def seed(self, params: Any, context: Any = None) -> bytes:
        """Ask, once, and stretch what was typed."""
        return self._ask().seed(params, context or {})

    def _ask(self) -> lb.Passphrase:
        if self._passphrase is None:
            try:
                with warnings.catch_warnings():
                    # It would read standard input, and show what is typed.
                    warnings.simplefilter("error", getpass.GetPassWarning)
                    self._passphrase = lb.Passphrase.prompt()
            except getpass.GetPassWarning:
                raise lb.CredentialError(
                    "there is no terminal to ask for the passphrase: give --passphrase-file, "
                    "--passphrase-command or --key-file",
                    kind="no_terminal",
                ) from None
            except (EOFError, lb.InputError):
                raise lb.CredentialError("no passphrase was typed", kind="no_passphrase") from None
        return self._passphrase


def _credential(args: argparse.Namespace) -> lb.Credential | lb.Kms | None:
    """Give what the command line or the environment says opens the vault; None to ask."""
    ways = ("passphrase_file", "passphrase_command", "key_file", "aws_kms", "local_kms")
    given = [way for way in ways if getattr(args, way) is not None]
    if len(given) > 1:
        shown = " and ".join("--" + way.replace("_", "-") for way in given)
        raise lb.InputError(f"{shown} exclude each other: one thing opens the vault")
    if not given:
        path = os.environ.get(ENV_PASSPHRASE_FILE)
        return lb.Passphrase.from_file(path) if path else None
    value = getattr(args, given[0])
    match given[0]:
        case "passphrase_file":
            return lb.Passphrase.from_file(_STDIN if value == "-" else value)
        case "passphrase_command":
            return lb.Passphrase.from_command(*_words(value))
        case "key_file":
            return lb.KeyFile(value)
        case "aws_kms":
            return lb.AwsKms(value)
    return lb.LocalKms(value)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise lb.InputError("--passphrase-command has a quote that does not end") from None


# ---- options


def read_options(path: str | None, pairs: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    """
    Give the options of a file, and over them those of the command line.

    Raises:
        InputError: The file cannot be read, or holds no JSON object.
    """
    options: dict[str, Any] = {}
    if path is not None:
        try:
            found = json.loads(Path(path).read_bytes())
        except OSError as exc:
            raise lb.InputError("the file of options cannot be read", path=path) from exc
        except ValueError:
            # Without the cause, which quotes the file, and that may hold secrets.
            raise lb.InputError("the file of options is no JSON", path=path) from None
        if not isinstance(found, dict):
            raise lb.InputError("the file of options holds no JSON object", path=path)
        options.update(found)
    options.update(pairs)
    return options
