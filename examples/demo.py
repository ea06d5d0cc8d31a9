"""
Show what loopbackup does, on real files of this machine; run by ``make demo``.

Six nights of backups, a look into the past, restores compared byte for byte, a replica,
retention, an erasure with its receipt in both places, and three attacks. Needs no network
and no rights, writes below one temporary folder only, and removes it. The exit
status is 1 if anything that was restored differs from what was backed up, if
anything of whom was erased is left, or if an attack goes unnoticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from attrs import define, field, frozen

import loopbackup as lb

ROOTS = ("/etc", "/usr/lib/python3", "/usr/share/doc", "/usr/share/zoneinfo", "/usr/include")
BUDGET_BYTES = 80_000_000
MAX_FILES = 5_000
WORK_FILES = 1_200
DUMP_BYTES = 30_000_000
NIGHTS = 6
KEEP = 2
USERS = 50
LETTERS_EACH = 8
KEY = lb.Passphrase("a sentence that nobody else would think of")
GONE = ("acme", "user-41")
VERIFIER = """
import sys
import loopbackup as lb

path, public_key, opening = sys.argv[1:]
receipt = lb.Receipt.load(path)
receipt.verify(public_key)
assert receipt.concerns(("acme", "user-41"), bytes.fromhex(opening))
print(f"the receipt verifies, and is about user-41: level {receipt.level}")
"""
DEMONSTRATOR = lb.Actor("demo", roles={"job"}, purpose="showing around")

Picture = dict[str, bytes]
"""Path -> hash of the content, or target of a link."""


# ---- what is shown

_COLOURS = {"bold": "1", "dim": "2", "good": "32", "bad": "31"}
_COLOURFUL = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(style: str, text: str) -> str:
    """Colour *text* on a terminal, and nowhere else."""
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if _COLOURFUL else text


def heading(text: str) -> None:
    """Begin a part."""
    print(f"\n{paint('bold', text)}", flush=True)


def say(text: str) -> None:
    """Print a line of a part."""
    print(f"  {text}", flush=True)


def mb(size_bytes: float) -> str:
    """Give a size as a person reads it."""
    return f"{size_bytes / 1e6:,.1f} MB"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns; the first two hold words, the others numbers."""
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if n < 2 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        say(paint("bold", text) if number == 0 else text)


# ---- what is backed up: real folders, a copy of some that we edit, letters of users


@frozen
class Place:
    """A real folder of this machine, or some of what lies in it."""

    path: Path
    include: tuple[str, ...]
    files: int
    size_bytes: int


def measure(path: Path) -> tuple[int, int]:
    """Count the files below *path* and their bytes; links are not followed."""
    files = size = 0
    for file in files_below(path):
        with contextlib.suppress(OSError):
            files, size = files + 1, size + file.lstat().st_size
        if files > MAX_FILES:
            break
    return files, size


def files_below(path: Path) -> Iterator[Path]:
    """Yield files and links at or below *path*, in order; what cannot be listed is left out."""
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(files))
        yield from (link for name in folders if (link := Path(folder, name)).is_symlink())


def choose_places(budget_bytes: int) -> list[Place]:
    """Choose real folders, whole or in part, within *budget_bytes*."""
    chosen, files_left = [], MAX_FILES
    for root in (Path(name).resolve() for name in ROOTS):
        if not os.access(root, os.R_OK | os.X_OK):
            continue
        taken, files, size = [], 0, 0
        children = sorted(root.iterdir())
        for child in children:
            more_files, more_size = measure(child)
            # Only names that mean nothing else in a pattern.
            plain = re.fullmatch(r"[\w.+-]+", child.name, re.ASCII)
            if plain and size + more_size <= budget_bytes and files + more_files <= files_left:
                taken.append(f"/{child.name}")
                files, size = files + more_files, size + more_size
        if taken:
            include = () if len(taken) == len(children) else tuple(taken)
            chosen.append(Place(root, include, files, size))
            budget_bytes, files_left = budget_bytes - size, files_left - files
    return chosen


def copy_some(places: Sequence[Place], to: Path) -> None:
    """Copy small real files into a folder that we may edit."""
    to.mkdir()
    for number, source in enumerate(f for place in places for f in files_below(place.path)):
        if number % 4 == 0 and source.is_file() and os.access(source, os.R_OK):
            target = to / f"part-{number // 400:02}" / f"{number:05}-{source.name}"
            target.parent.mkdir(exist_ok=True)
            if source.stat().st_size < 100_000:
                target.write_bytes(source.read_bytes())
        if number > 4 * WORK_FILES:
            break


def edit_folder(folder: Path, night: int, luck: random.Random) -> None:
    """Do to a folder what people do in a day; on the first leave a large file behind."""
    files = [path for path in files_below(folder) if path.is_file()]
    for path in luck.sample(files, min(20, len(files))):
        data = path.read_bytes()
        middle = luck.randrange(len(data) + 1)
        path.write_bytes(data[:middle] + f"\nnight {night}\n".encode() + data[middle:])
    for path in luck.sample(files, min(5, len(files) // 2)):
        path.unlink()
    (folder / f"report-{night}.txt").write_text(f"Acme AB, night {night}\n" * 500)
    (folder / "dump.bin").unlink(missing_ok=True)
    if night == 1:
        (folder / "dump.bin").write_bytes(luck.randbytes(DUMP_BYTES))


@define
class Mailbox:
    """The letters of an application; some change every day."""

    luck: random.Random
    letters: dict[tuple[str, str], bytes] = field(factory=dict)
    """(user, path) -> text."""

    def fill(self) -> None:
        """Write the first letters."""
        for user in (f"user-{number}" for number in range(1, USERS + 1)):
            for number in range(LETTERS_EACH):
                self.letters[user, f"users/{user}/letter-{number}"] = self._text()

    def live_a_day(self) -> None:
        """Rewrite some letters, throw some away, write the diary."""
        for key in self.luck.sample(sorted(self.letters), 25):
            self.letters[key] = self._text()
        for key in self.luck.sample(sorted(self.letters), 5):
            del self.letters[key]
        diary = f"Dear diary, {self.luck.randrange(10, 99)} % of it is done."
        self.letters["user-42", "users/user-42/diary"] = diary.encode()

    def _text(self) -> bytes:
        words = self.luck.choices(("Acme", "AB", "order", "thanks", "please", "42"), k=400)
        return " ".join(words).encode()

    def items(self) -> Iterator[lb.Item]:
        """Hand the letters over, as an application would."""
        for (user, path), text in self.letters.items():
            version = hashlib.sha256(text).hexdigest()
            yield lb.Item(path, data=text, version=version, subject=("acme", user))

    def picture(self) -> Picture:
        """Remember what it holds."""
        return {path: hashlib.sha256(text).digest() for (_, path), text in self.letters.items()}


def picture_of(root: Path, tops: Iterable[str] = ()) -> Picture:
    """Remember every file and link that can be read below *root*, or below *tops* in it."""
    seen: Picture = {}
    for top in tops or ("",):
        for path in files_below(root / top.removeprefix("/")):
            name = str(path.relative_to(root))
            # What cannot be read is not compared; the backup reports it.
            with contextlib.suppress(OSError):
                if path.is_symlink():
                    seen[name] = os.fsencode(path.readlink())
                elif path.is_file():
                    seen[name] = hashlib.sha256(path.read_bytes()).digest()
    return seen


@frozen
class Wanted:
    """What a snapshot must restore to."""

    picture: Picture
    root: Path | None = None
    """Set for a real folder, in which others may write while the demo runs."""
    since: float = 0.0

    def has_moved_on(self, path: str) -> bool:
        """Tell whether somebody changed a real file since its picture was taken."""
        if self.root is None:
            return False
        try:
            return (self.root / path).lstat().st_ctime >= self.since
        except OSError:
            return True


# ---- what is done


@define
class Demo:
    """The vault's surroundings, and the score."""

    folder: Path
    places: list[Place]
    luck: random.Random = field(factory=lambda: random.Random(42))
    now: datetime = field(init=False)
    nights: list[Sequence[str]] = field(factory=list)
    wanted: dict[str, Wanted] = field(factory=dict)
    """Snapshot id -> what it must restore to."""
    seen_bytes: int = 0
    compared: int = 0
    compared_bytes: int = 0
    moved_on: int = 0
    different: list[str] = field(factory=list)
    caught: int = 0
    missed: int = 0

    def __attrs_post_init__(self) -> None:
        today = datetime.now(UTC).replace(hour=2, minute=0, second=0, microsecond=0)
        self.now = today - timedelta(days=NIGHTS)

    def vault(
        self, opener: Callable[..., lb.Vault] = lb.Vault.open, key: lb.Passphrase = KEY
    ) -> lb.Vault:
        """Open the vault, or create it, with a clock that the demo moves."""
        # Whoever erases has to have the replicas at hand; to create, there is none yet.
        more = {} if opener == lb.Vault.create else {"replicas": {self.replica: None}}
        return opener(
            self.folder / "vault",
            key,
            clock=lambda: self.now,
            state_dir=self.folder / "state",
            actor=DEMONSTRATOR,
            **more,
        )

    @property
    def replica(self) -> str:
        """Where the copy of the vault lies."""
        return str(self.folder / "replica")

    def stored_bytes(self) -> int:
        """Give the size of the vault on disk."""
        return sum(path.stat().st_size for path in files_below(self.folder / "vault"))

    def run_nights(self, vault: lb.Vault, work: Path) -> None:
        """Back up night by night, with a day of edits in between."""
        mailbox = Mailbox(self.luck)
        mailbox.fill()
        for night in range(NIGHTS):
            mailbox.live_a_day()
            if night:
                self.now += timedelta(days=1)
                edit_folder(work, night, self.luck)
            if night in (0, NIGHTS - 1):
                for place in self.places:
                    self._back_up_real(vault, place)
            snapshot = vault.backup(work, name="work", tags={"night": str(night)})
            self._note(snapshot, Wanted(picture_of(work)))
            snapshot = vault.backup(mailbox.items(), name="letters")
            self._note(snapshot, Wanted(mailbox.picture()))

    def _back_up_real(self, vault: lb.Vault, place: Place) -> None:
        wanted = Wanted(picture_of(place.path, place.include), place.path, time.time() - 1)
        # What only root may read is reported here, and counted; by default it raises.
        snapshot = vault.backup(place.path, include=place.include, errors="report")
        self._note(snapshot, wanted)

    def _note(self, snapshot: lb.Snapshot, wanted: Wanted) -> None:
        report = snapshot.report
        self.wanted[snapshot.id] = wanted
        self.seen_bytes += snapshot.size_bytes
        self.nights.append(
            (
                f"{snapshot.created_at:%a %d %b}",
                snapshot.name,
                f"{report.files:,}",
                f"{report.missing:,}",
                mb(snapshot.size_bytes),
                mb(report.bytes_read),
                mb(report.bytes_added),
                f"{report.seconds:.2f} s",
            )
        )

    def look_back(self, vault: lb.Vault) -> None:
        """Find what one user had on the second night, and what changed since."""
        noon = self.now.replace(hour=12) - timedelta(days=NIGHTS - 2)
        then = vault.snapshot(name="letters", at=noon)
        with then.open("users/user-42/diary") as file:
            say(f"user-42's diary of {then.created_at:%A} said: {file.read().decode()!r}")
        letters = list(then.ls("users/user-42"))
        say(f"with it lay {len(letters) - 1} letters, all about {letters[0].subject}")
        latest, first = vault.snapshot(name="work"), vault.snapshots(name="work")[-1]
        say(f"reports in work: {', '.join(entry.path for entry in latest.find('/report-*.txt'))}")
        say(f"work since {first.created_at:%A}: {latest.diff(first)}")

    def restore(self, vault: lb.Vault, snapshots: Sequence[lb.Snapshot]) -> None:
        """Restore snapshots and compare each with what it was made of."""
        began, before = time.perf_counter(), self.compared
        for snapshot in snapshots:
            with tempfile.TemporaryDirectory(dir=self.folder) as to:
                # What a backup could not read cannot come back; the comparison finds all else.
                with contextlib.suppress(lb.IncompleteRestore):
                    vault.restore(snapshot, to)
                self._compare(self.wanted[snapshot.id], Path(to))
        verdict = paint("bad", "NOT EQUAL") if self.different else paint("good", "all equal")
        seconds = time.perf_counter() - began
        files = self.compared - before
        say(f"{len(snapshots)} snapshots, {files:,} files compared in {seconds:.1f} s: {verdict}")

    def _compare(self, wanted: Wanted, restored: Path) -> None:
        found = picture_of(restored)
        for path in wanted.picture.keys() | found.keys():
            self.compared += 1
            if wanted.picture.get(path) == found.get(path):
                self.compared_bytes += (restored / path).lstat().st_size
            elif wanted.has_moved_on(path):
                self.moved_on += 1
            else:
                self.different.append(path)

    def keep_newest(self, vault: lb.Vault) -> None:
        """Forget old snapshots, prune, and prune again after the grace."""
        for name in ("work", "letters"):
            for old in vault.snapshots(name=name)[KEEP:]:
                vault.forget(old, reason=f"older than the newest {KEEP}")
        pruned = vault.prune()
        say(f"prune: {pruned.condemned} objects condemned, {mb(pruned.moved_bytes)} moved")
        self.now += timedelta(days=1, hours=1)
        pruned = vault.prune()
        say(f"prune, a day later: {pruned.swept} objects deleted, {mb(pruned.freed_bytes)} freed")

    # ---- a copy in another place

    def replicate(self, vault: lb.Vault) -> None:
        """Bring the replica up to date, and say what that took."""
        began = time.perf_counter()
        done = vault.replicate(self.replica, location="the other cellar")
        text = str(done).removeprefix(f"{self.replica}: ")
        say(f"{text}, in {time.perf_counter() - began:.2f} s")

    def restore_from_the_replica(self) -> None:
        """Open the replica alone, as on a new machine, and compare what it restores."""
        began = time.perf_counter()
        with lb.Vault.open(self.replica, KEY, read_only=True, state_dir=None) as copy:
            found = [s for s in copy.snapshots() if s.name in ("work", "letters")]
            say(f"{copy.info().snapshots} snapshots, read-only, opened from nothing but its folder")
            self.restore(copy, [found[0], found[1]])
            where = lb.testing.find_canary(copy, "user-41")
        how = f"user-41 is gone from there too, in {time.perf_counter() - began:.1f} s"
        self._score(not where, "a search of the replica", how)

    # ---- somebody is erased

    def erase(self, vault: lb.Vault) -> None:
        """Erase one user from all snapshots; another process verifies the receipt."""
        began = time.perf_counter()
        say(str(vault.holdings(GONE)).splitlines()[0] + " of user-41")
        receipt = vault.erase_subjects([GONE], reason="request 118")
        say(f"{receipt}, in {time.perf_counter() - began:.2f} s")
        places = receipt.facts["keys"]["destinations"]
        gone = sum(place["stage"] == "keys_destroyed" for place in places)
        say(f"the keys are gone from {gone} of {len(places)} places: the vault and its replica")
        for wanted in self.wanted.values():
            for path in [path for path in wanted.picture if path.startswith("users/user-41")]:
                del wanted.picture[path]
        receipt.save(self.folder / "receipt.json")
        command = [sys.executable, "-c", VERIFIER, str(self.folder / "receipt.json")]
        opening = receipt.openings[GONE].hex()
        done = subprocess.run(
            [*command, vault.public_key, opening], capture_output=True, text=True, check=False
        )
        how = done.stdout.strip() or done.stderr.strip()[-200:]
        self._score(done.returncode == 0, "another process, with the public key alone", how)
        try:
            vault.restore(vault.snapshot(name="letters"), self.folder / "none", subject=GONE)
        except lb.NotFoundError as exc:
            self._score(exc.kind == "erased", "a restore of user-41", f"refused, {exc}")
        else:
            self._score(False, "a restore of user-41", "")
        where = [self.folder / "state"]
        found = lb.testing.find_canary(vault, "user-41", places=where)
        how = "user-41 is in nothing that the remaining keys open"
        self._score(not found, "a search of all keys, lists, packs and records", how)

    # ---- attacks

    def flip_a_bit(self, vault: lb.Vault) -> None:
        """Alter the largest pack; a check has to say what that costs."""
        victim = max(files_below(self.folder / "vault" / "packs"), key=os.path.getsize)
        whole = victim.read_bytes()
        at = min(500_000, len(whole) // 3)
        victim.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        report = vault.check(data=True)
        victim.write_bytes(whole)
        entries = sum(problem.path is not None for problem in report.problems)
        how = f"check finds {len(report.problems)} problems, and names {entries} entries"
        self._score(not report.ok, "a flipped bit", how)

    def cut_the_ledger(self) -> None:
        """Take the newest record away, so that the store shows an older history."""
        newest = max((self.folder / "vault" / "ledger").iterdir())
        shutil.move(newest, self.folder / "hidden")
        self._refused(lb.RollbackDetected, "the newest record gone", self.vault)
        shutil.move(self.folder / "hidden", newest)

    def guess(self) -> None:
        """Try another passphrase."""
        guessed = lb.Passphrase("letmein")
        self._refused(lb.CredentialError, "a guessed passphrase", lambda: self.vault(key=guessed))

    def _refused(
        self, error: type[lb.LoopbackupError], attack: str, act: Callable[[], lb.Vault]
    ) -> None:
        try:
            act().close()
        except error as exc:
            first = re.split(r"[:.] ", str(exc), maxsplit=1)[0]
            self._score(True, attack, f"{type(exc).__name__}, {first}")
        else:
            self._score(False, attack, "")

    def _score(self, caught: bool, attack: str, how: str) -> None:  # noqa: FBT001 - a verdict
        self.caught, self.missed = self.caught + caught, self.missed + (not caught)
        say(f"{attack}: " + (how if caught else paint("bad", "NOT NOTICED")))


def play(folder: Path) -> bool:
    """Run the whole demo below *folder*; tell whether everything held."""
    began = time.perf_counter()
    demo = Demo(folder, choose_places(min(BUDGET_BYTES, shutil.disk_usage(folder).free // 5)))
    copy_some(demo.places, folder / "work")
    heading("What is backed up")
    for place in demo.places:
        part = f", {len(place.include)} of its folders and files" if place.include else ""
        say(f"{place.path}: {place.files:,} files, {mb(place.size_bytes)}{part}")
    say("work: a copy of some of these, edited every day")
    say(f"letters: {USERS * LETTERS_EACH} items about {USERS} users of Acme AB")

    heading(f"{NIGHTS} nights (the clock is moved, the work is real)")
    with demo.vault(lb.Vault.create) as vault:
        demo.run_nights(vault, folder / "work")
    head = ("night", "series", "entries", "unreadable", "size", "read", "added", "time")
    table(head, demo.nights)
    full = demo.stored_bytes()

    with demo.vault() as vault:
        heading("Looking back")
        demo.look_back(vault)
        heading("Restoring every night of work and of letters")
        demo.restore(vault, [s for s in vault.snapshots() if s.name in ("work", "letters")])
        heading("A replica in another place")
        demo.replicate(vault)
        heading(f"Keeping the newest {KEEP} of work and of letters")
        demo.keep_newest(vault)
        demo.replicate(vault)
        erase_everywhere(demo, vault)
        heading("Attacks")
        demo.flip_a_bit(vault)
        report = vault.check(data=True)
        vault.ledger.verify()
        records = len(vault.ledger)
    demo.cut_the_ledger()
    demo.guess()
    summarise(demo, report, full, records)
    say(paint("dim", f"{time.perf_counter() - began:.0f} s; nothing of this is left behind"))
    return report.ok and not demo.different and not demo.missed


def erase_everywhere(demo: Demo, vault: lb.Vault) -> None:
    """Erase somebody at both places, and restore what is left from each."""
    heading("One user of Acme AB asks to be erased")
    demo.erase(vault)
    heading("What is left, restored from the replica alone")
    demo.replicate(vault)
    demo.restore_from_the_replica()
    heading("Restoring everything that is left")
    demo.restore(vault, vault.snapshots())


def summarise(demo: Demo, report: lb.CheckReport, full: int, records: int) -> None:
    """Print what a person takes home."""
    left = demo.stored_bytes()
    rows = [
        (not demo.different, "restored byte for byte?",
         f"{demo.compared:,} files, {mb(demo.compared_bytes)}, {len(demo.different)} different"),
        (full < demo.seen_bytes, "smaller than its sources?",
         f"{mb(demo.seen_bytes)} in {len(demo.nights)} snapshots became {mb(full)}"),
        (left < full, "room given back?", f"{mb(left)} after forgetting and pruning"),
        (report.ok, "every byte sound?", str(report)),
        (True, "ledger verified?", f"{records} signed records, each folded again"),
        (not demo.missed, "erased, attacks noticed?",
         f"{demo.caught} of {demo.caught + demo.missed}"),
    ]  # fmt: skip
    heading("In short")
    for held, question, text in rows:
        say(f"{question:26}{paint('good', 'yes') if held else paint('bad', 'NO ')}  {text}")
    if demo.moved_on:
        say(f"{demo.moved_on} real files changed while the demo ran and were not compared")
    for path in demo.different[:20]:
        say(paint("bad", f"differs: {path!r}"))


def _terminated(_signal: int, _frame: object) -> NoReturn:
    # As an exception, so that the temporary folder goes here, too.
    sys.exit(143)


def main() -> int:
    """Run the demo in a folder that is gone afterwards; return the exit status."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with tempfile.TemporaryDirectory(prefix="loopbackup-demo-") as folder:
            print(f"loopbackup demo. Everything is written below {folder}.")
            return 0 if play(Path(folder)) else 1
    except KeyboardInterrupt:
        print("\nStopped; the temporary folder is removed.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
