"""What may stand on the command line, and what of it is refused."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

__all__ = ["ENV_PASSPHRASE_FILE", "ENV_VAULT", "USAGE", "parse"]

ENV_VAULT: Final = "LOOPBACKUP_VAULT"
ENV_PASSPHRASE_FILE: Final = "LOOPBACKUP_PASSPHRASE_FILE"  # noqa: S105 - a name
USAGE: Final = 2
"""Exit code for what cannot be asked so; argparse fixes it."""

_TO_THE_MINUTE: Final = re.compile(r"[\d-]{10}[T ]\d\d:\d\d(Z|[+-]\d\d:?\d\d)?")

_ABOUT: Final = "Read and restore a vault without the application that made it."
_EPILOG: Final = """\
Nothing is written to the vault, not even that somebody looked, but with --record.
The passphrase is asked for where nothing else opens the vault; it is never an argument.

  loopbackup snapshots --vault /mnt/backup/vault
  loopbackup restore latest /tmp/restored --vault /mnt/backup/vault --key-file vault.key
  loopbackup restore latest /tmp/restored --include 'users/42/**'

environment:
  LOOPBACKUP_VAULT             the vault, where --vault is not given
  LOOPBACKUP_PASSPHRASE_FILE   the passphrase, where nothing else that opens it is given

exit codes:
  0  done                                  4  the vault cannot be reached, or is not there
  1  something is missing or damaged       5  an older or another vault than expected
  2  it cannot be asked so                 6  a rule of the vault refuses
  3  what was given does not open it      70  a fault of this program

'loopbackup COMMAND --help' says more. Everything: docs/reference/cli.md"""

_DEFAULTS: Final[dict[str, Any]] = {
    "vault": None,
    "options_before": [],
    "options": [],
    "options_file": None,
    "head": None,
    "public_key": None,
    "state_dir": None,
    "no_state": False,
    "record": None,
    "override": None,
    "passphrase_file": None,
    "passphrase_command": None,
    "key_file": None,
    "aws_kms": None,
    "local_kms": None,
    "json": False,
    "quiet": False,
    "debug": False,
}


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and repeats no value: it may be a secret in a wrong place."""

    def error(self, message: str) -> NoReturn:
        from ..show.text import plain

        if message.startswith("argument COMMAND: invalid choice"):
            message = "no such command"
        print(f"loopbackup: {plain(message)}", file=sys.stderr)
        print(f"  '{self.prog} --help' says how", file=sys.stderr)
        sys.exit(USAGE)


class _RefuseSecret(argparse.Action):
    """Refuses what would show the passphrase to everybody on the machine."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(
            "a passphrase is never an argument: other users see those, and the shell keeps them. "
            "Use --passphrase-file or --passphrase-command, or give nothing and be asked"
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """
    Parse a command line; leaves the process with 2 where that cannot be done.

    The result has every name of the options that all commands share, and
    ``command``.
    """
    parser = _build()
    if not argv:
        parser.print_help(sys.stderr)
        sys.exit(USAGE)
    args, rest = parser.parse_known_args(argv, argparse.Namespace(**_DEFAULTS))
    if rest:
        unknown = [word.partition("=")[0] for word in rest if word.startswith("-")]
        parser.error(f"no such option: {unknown[0]}" if unknown else "too many arguments")
    return args


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _build() -> argparse.ArgumentParser:
    parser = _Parser(
        "loopbackup",
        usage="loopbackup COMMAND [OPTIONS]",
        epilog=_EPILOG,
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which version this is")
    _add_shared(parser, before=True)
    commands = parser.add_subparsers(
        metavar="COMMAND", dest="command", prog="loopbackup", required=True, help=argparse.SUPPRESS
    )
    listed = [_ABOUT, "", "commands:"]

    def add(name: str, arguments: str, told: str, *more: str) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            usage=f"loopbackup {name} {arguments}[OPTIONS]",
            description="\n".join((f"{told[0].upper()}{told[1:]}.", *more)),
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        assert isinstance(made, argparse.ArgumentParser)
        listed.append(f"  {name:<11} {told}")
        return made

    _fill(add)
    parser.description = "\n".join(listed)
    return parser


def _fill(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add("snapshots", "", "list the snapshots, newest first")
    command.add_argument("--name", help="of this series only")
    command.add_argument("--since", type=_beginning, metavar="TIME", help="made then or later")
    command.add_argument("--until", type=_end, metavar="TIME", help="made then or before")
    _add_shared(command)

    command = add("ls", "SNAPSHOT [PATH] ", "list a folder of a snapshot")
    _add_selection(command)
    command.add_argument("path", nargs="?", default="", metavar="PATH", help="default: the top")
    command.add_argument("-R", "--recursive", action="store_true", help="and all below it")
    _add_long(command)
    _add_subject(command)
    _add_shared(command)

    command = add("find", "SNAPSHOT PATTERN ", "find entries of a snapshot by a gitignore pattern")
    _add_selection(command)
    command.add_argument("pattern", metavar="PATTERN", help="such as '*.pdf' or 'users/42/**'")
    _add_long(command)
    _add_subject(command)
    _add_shared(command)

    command = add("cat", "SNAPSHOT PATH ", "write the content of one file to standard output")
    _add_selection(command)
    command.add_argument("path", metavar="PATH", help="of a file or an item")
    _add_subject(command)
    _add_shared(command, has_json=False)

    command = add(
        "restore",
        "SNAPSHOT TARGET ",
        "restore a snapshot, or a part of it",
        "What stands in TARGET already stays as it is, but for --overwrite.",
    )
    _add_restore(command)
    _add_shared(command)

    command = add(
        "check",
        "",
        "verify the vault",
        "Without --data: ledger, keys, index, entries, and that everything has a place.",
    )
    told = "also read and verify every byte, or this share of the packs (0 to 1)"
    command.add_argument(
        "--data", nargs="?", type=_share, const=True, default=False, metavar="SHARE", help=told
    )
    _add_shared(command)

    command = add("keys", "", "list what opens the vault")
    _add_shared(command)


def _add_restore(command: argparse.ArgumentParser) -> None:
    _add_selection(command)
    command.add_argument("target", metavar="TARGET", help="a folder, made if missing; or a URL")
    told = "only what this gitignore pattern matches; may be repeated"
    command.add_argument("--include", action="append", default=[], metavar="PATTERN", help=told)
    told = "leave out what this matches; may be repeated"
    command.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help=told)
    _add_subject(command)
    command.add_argument(
        "--overwrite",
        choices=("never", "changed", "always"),
        default="never",
        help="what happens to entries that stand there already (default: never touched)",
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be done")
    told = "for the file system of a TARGET that is a URL; as --option"
    command.add_argument(
        "--target-option", dest="target_options", action="append", type=_pair, default=[],
        metavar="KEY=VALUE", help=told,
    )  # fmt: skip
    command.add_argument(
        "--target-options-file", metavar="FILE", help="likewise; as --options-file"
    )


def _add_selection(command: argparse.ArgumentParser) -> None:
    told = "'latest', or what an id begins with"
    command.add_argument("snapshot", metavar="SNAPSHOT", help=told)
    command.add_argument("--name", help="of this series; needed for 'latest' if there are several")
    told = "the newest that was made then or before; UTC, but for a zone in it"
    command.add_argument("--at", type=_end, metavar="TIME", help=told)


def _add_long(command: argparse.ArgumentParser) -> None:
    told = "with mode, owner and subject"
    command.add_argument("-l", "--long", action="store_true", help=told)


def _add_subject(command: argparse.ArgumentParser) -> None:
    command.add_argument("--subject", help="only what is about this subject")
    command.add_argument("--tenant", help="whose person --subject is, for subjects of two parts")


def _add_shared(
    parser: argparse.ArgumentParser, *, before: bool = False, has_json: bool = True
) -> None:
    """Add what all commands take. It may also stand before the command, where no help shows it."""

    def told(text: str) -> str:
        return argparse.SUPPRESS if before else text

    def add(to: Any, *names: str, help: str, **more: Any) -> None:
        to.add_argument(*names, default=argparse.SUPPRESS, help=told(help), **more)

    vault = parser.add_argument_group("the vault")
    add(vault, "--vault", metavar="URL", help=f"a path or a URL (or {ENV_VAULT})")
    add(
        vault, "--option", dest="options_before" if before else "options", action="append",
        type=_pair, metavar="KEY=VALUE", help="for the store; as JSON, or else as text",
    )  # fmt: skip
    add(
        vault, "--options-file", metavar="FILE", help="a JSON object of them: the place for secrets"
    )
    add(vault, "--head", help="a head that you kept: what is older is refused")
    add(
        vault, "--public-key", metavar="HEX", help="the vault's, as you kept it: others are refused"
    )
    add(vault, "--state-dir", metavar="FOLDER", help="where this machine remembers vaults")
    add(vault, "--no-state", action="store_true", help="remember nothing, look up nothing")
    add(vault, "--record", metavar="REASON", help="write into the ledger who did this, and why")
    add(vault, "--override", metavar="REASON", help="do not ask the vault's policy; with --record")

    keys = parser.add_argument_group("what opens it, one of these; else you are asked")
    told_file = f"its first line is the passphrase; - is standard input (or {ENV_PASSPHRASE_FILE})"
    add(keys, "--passphrase-file", metavar="FILE", help=told_file)
    told_command = "prints the passphrase; runs without a shell"
    add(keys, "--passphrase-command", metavar="COMMAND", help=told_command)
    add(keys, "--key-file", metavar="FILE", help="a key file")
    add(keys, "--aws-kms", metavar="KEY", help="id, ARN or alias of a key in AWS KMS")
    add(keys, "--local-kms", metavar="FOLDER", help="the folder of a LocalKms")
    for refused in ("--passphrase", "--password"):
        keys.add_argument(
            refused, nargs="?", action=_RefuseSecret, default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )  # fmt: skip

    output = parser.add_argument_group("output")
    if has_json:
        add(output, "--json", action="store_true", help="for programs; docs/reference/cli.md")
    add(output, "-q", "--quiet", action="store_true", help="errors only, no notes, no progress")
    add(output, "--debug", action="store_true", help="show where an error comes from")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"loopbackup {version('loopbackup')}")
        sys.exit(0)


# ---- values


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        # Without the text, which may hold a secret.
        raise argparse.ArgumentTypeError("an option is KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError("a share of the data is a number from 0 to 1")
    return share


def _beginning(text: str) -> datetime:
    return _moment(text)[0]


def _end(text: str) -> datetime:
    return _moment(text)[1]


def _moment(text: str) -> tuple[datetime, datetime]:
    """Give the first and the last instant that *text* can mean: a date is a whole day, in UTC."""
    text = text.removesuffix(" UTC")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "a time is written 2026-11-24, '2026-11-24 18:00' or 2026-11-24T18:00+01:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if ":" not in text:
        length = timedelta(days=1)
    elif _TO_THE_MINUTE.fullmatch(text):
        length = timedelta(minutes=1)  # As listings show times.
    else:
        length = timedelta(microseconds=1)
    return moment, moment + length - timedelta(microseconds=1)
