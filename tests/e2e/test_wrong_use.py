"""Wrong arguments: refused at the entry, as an error of ours that says what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import dump
from tests.rights import folder_for_all, unprivileged

import loopbackup as lb
from loopbackup.errors import (
    AlreadyExistsError,
    FormatError,
    InputError,
    LoopbackupError,
    StoreError,
)
from loopbackup.testing import memory_vault
from loopbackup.vault.format.record import MAX_BODY_BYTES, Checked
from loopbackup.vault.ledger.commit import Draft
from loopbackup.vault.store.memory import MemoryStore

SURROGATE = "\ud800"
LONG = "x" * 20_000_000


@pytest.fixture
def store() -> MemoryStore:
    """Give the store of the vault."""
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Iterator[lb.Vault]:
    """Give a vault with one snapshot."""
    with memory_vault(store=store) as vault:
        vault.backup([lb.Item("a", data=b"a")], name="n")
        yield vault


def label(value: object) -> str:
    """Name an argument shortly, and the same in each process."""
    return ascii(value).partition(" at 0x")[0][:40]


def long_ago() -> datetime:
    """Tell the time of a clock that was never set."""
    return datetime(1960, 1, 1, tzinfo=UTC)


def refused(call: Callable[[], object], *, match: str | None = None) -> InputError:
    """Expect an InputError with a short text of its own."""
    with pytest.raises(InputError, match=match) as caught:
        call()
    assert 0 < len(str(caught.value)) < 300
    return caught.value


# ---- acting


@pytest.mark.parametrize(
    "asked",
    [
        {"idempotency_key": SURROGATE},
        {"idempotency_key": ""},
        {"idempotency_key": 5},
        {"idempotency_key": LONG},
        {"executor": "threads"},
        {"executor": ThreadPoolExecutor},
        {"name": b"x"},
        {"name": SURROGATE},
        {"tags": {"a": 1}},
        {"tags": {b"a": "1"}},
        {"tags": [("a", "b")]},
        {"category": 5},
        {"subject": 5},
        {"subject": {"user-42"}},
        {"subject": ("a", "b", "c")},
        {"exclude": 5},
        {"exclude": None},
        {"exclude": b"*.tmp"},
        {"include": [5]},
    ],
    ids=label,
)
def test_a_backup_is_refused_before_it_begins(
    vault: lb.Vault, store: MemoryStore, tmp_path: Path, asked: dict[str, Any]
) -> None:
    """Nothing is read, and nothing is stored."""
    before = dump(store)

    refused(lambda: vault.backup(tmp_path, **{"name": "n", **asked}))

    assert dump(store) == before


@pytest.mark.parametrize("source", [5, None, object()], ids=["number", "none", "object"])
def test_what_is_no_source_is_refused(vault: lb.Vault, source: Any) -> None:
    """A path, a URL, or items."""
    refused(lambda: vault.backup(source, name="n"))


def test_one_pattern_may_stand_alone(vault: lb.Vault, tmp_path: Path) -> None:
    """A text is one pattern, not a list of characters."""
    for name in ("a.tmp", "b.txt", "t"):
        (tmp_path / name).write_text("x")

    snap = vault.backup(tmp_path, name="n", exclude="*.tmp")
    only = vault.backup(tmp_path, name="n", include="*.tmp")

    assert [entry.path for entry in snap.ls()] == ["b.txt", "t"]
    assert [entry.path for entry in only.ls()] == ["a.tmp"]


@pytest.mark.parametrize("share", ["x", "0.5", None, float("nan"), -0.1, 2, [1]], ids=ascii)
def test_a_share_that_is_no_share_is_refused(vault: lb.Vault, share: Any) -> None:
    """Neither text nor anything outside of 0 and 1."""
    refused(lambda: vault.check(data=share), match="between 0 and 1")


@pytest.mark.parametrize("to", ["", b"", None, 5], ids=ascii)
def test_a_restore_to_nowhere_is_refused(
    vault: lb.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any
) -> None:
    """An empty path is not the current folder."""
    monkeypatch.chdir(tmp_path)

    refused(lambda: vault.restore(vault.snapshot(), to), match="folder or a URL")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", ["", SURROGATE, None, 5, b"case 17", LONG], ids=label)
def test_nothing_is_forgotten_without_a_reason(vault: lb.Vault, reason: Any) -> None:
    """Whoever reads the ledger later must find one, and be able to read it."""
    refused(lambda: vault.forget(vault.snapshot(), reason=reason), match="reason")

    assert len(vault.snapshots()) == 1


def test_a_reason_of_full_length_is_kept(vault: lb.Vault) -> None:
    """Of characters that have four bytes each."""
    reason = "\N{OLD PERSIAN SIGN A}" * 16_384

    vault.forget(vault.snapshot(), reason=reason)

    assert list(vault.ledger.entries())[-1].reason == reason


def test_what_no_record_can_hold_is_refused_before_it_is_committed(vault: lb.Vault) -> None:
    """A record with it would be void, after all the work."""
    session = vault._session
    size = session.log.state.size

    body = session.body("meta", session.keyring.generation_ref, bytes(MAX_BODY_BYTES))
    draft = Draft("check", Checked(0, 0.0), [body])

    refused(lambda: session.log.commit_draft(draft), match="too long")

    assert session.log.state.size == size


# ---- items and actors


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC) - timedelta(days=1),
        datetime(1677, 1, 1, tzinfo=UTC),
        datetime(2555, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1),  # noqa: DTZ001 - the mistake that is tested
        "2026-01-01",
        1_700_000_000,
    ],
    ids=str,
)
def test_a_time_that_the_format_cannot_hold_is_refused(moment: Any) -> None:
    """When the item is made, so that the traceback shows where."""
    refused(lambda: lb.Item("a", data=b"", modified_at=moment), match="modified_at")


@pytest.mark.parametrize(
    "moment",
    [datetime(1678, 1, 1, tzinfo=UTC), datetime(2553, 12, 31, 23, 59, 59, tzinfo=UTC)],
    ids=str,
)
def test_times_long_before_and_after_ours_come_back(vault: lb.Vault, moment: datetime) -> None:
    """To the microsecond."""
    moment += timedelta(microseconds=1)

    snap = vault.backup([lb.Item("a", data=b"a", modified_at=moment)], name="t")

    assert [entry.modified_at for entry in snap.ls()] == [moment]


@pytest.mark.parametrize(
    ("id_", "more"),
    [
        ("", {}),
        (5, {}),
        (SURROGATE, {}),
        (LONG, {}),
        ("a", {"purpose": LONG}),
        ("a", {"purpose": SURROGATE}),
        ("a", {"ip": 5}),
        ("a", {"device": LONG}),
        ("a", {"roles": "dpo"}),
        ("a", {"roles": [""]}),
        ("a", {"roles": [5]}),
        ("a", {"roles": [LONG]}),
        ("a", {"roles": map(str, range(3))}),
        ("a", {"roles": [str(number) for number in range(257)]}),
    ],
    ids=label,
)
def test_an_actor_that_no_record_could_name_is_refused(id_: Any, more: dict[str, Any]) -> None:
    """When it is made, not when it has acted."""
    refused(lambda: lb.Actor(id_, **more))


def test_an_actor_of_full_size_acts(vault: lb.Vault) -> None:
    """All bounds at once fit into a record."""
    text = "\N{OLD PERSIAN SIGN A}" * 4096
    roles = {text[:-4] + f"{number:04}" for number in range(256)}
    actor = lb.Actor(text, roles=roles, purpose=text, ip=text, device=text)

    vault.acting_as(actor).backup([lb.Item("a", data=b"b")], name="n")

    last = list(vault.ledger.entries())[-1]
    assert (last.actor, last.purpose, set(last.roles)) == (text, text, roles)


@pytest.mark.parametrize("actor", ["user-42", None, 5, lb.Actor], ids=str)
def test_only_an_actor_acts(vault: lb.Vault, actor: Any) -> None:
    """A name alone does not say in which role."""
    refused(lambda: vault.acting_as(actor), match=r'Actor\("user-42"\)')
    with pytest.raises(InputError), lb.acting_as(actor):
        raise AssertionError


def test_a_gate_that_gives_endless_reasons_does_not_stop_the_ledger(store: MemoryStore) -> None:
    """The refusal is recorded, with as much of the reasons as fits."""

    class Talker(lb.AllowAll):
        def decide(self, action: str, facts: Any, *, at: datetime) -> Any:
            if action == "backup":
                return lb.Decision(allowed=False, reasons=(LONG, LONG))
            return super().decide(action, facts, at=at)

    with memory_vault(store=store, policy=Talker()) as vault:
        with pytest.raises(lb.PolicyError):
            vault.backup([], name="n")
        before = len(vault.ledger)

    assert len(list(store.list("ledger/"))) == before + 1


# ---- creating and opening


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, lb.KeyFile]:
    """Give a vault on disk and its key."""
    folder = tmp_path_factory.mktemp("place")
    key = lb.KeyFile.generate(folder / "key")
    lb.Vault.create(folder / "vault", key, state_dir=None).close()
    return folder / "vault", key


@pytest.mark.parametrize(
    "key",
    ["a-secret", b"a-secret", None, 5, lb.Passphrase, Path("key"), ("a-secret",)],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_credential_is_refused(tmp_path: Path, key: Any) -> None:
    """The error says what to wrap it in, and never shows it."""
    for act in (lb.Vault.create, lb.Vault.open):
        error = refused(partial(act, tmp_path / "v", key, state_dir=None), match="KeyFile")

        assert "a-secret" not in str(error)

    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"grace_s": -1},
        {"grace_s": "x"},
        {"grace_s": 1.5},
        {"grace_s": True},
        {"grace_s": timedelta(days=1)},
        {"grace_s": 10**9},
        {"location": SURROGATE},
        {"location": ""},
        {"location": 5},
        {"location": LONG},
        {"single_writer": "yes"},
        {"storage_options": {"nonsense": 1}},
        {"storage_options": "fsync"},
        {"storage_options": {5: 1}},
        {"actor": "user-42"},
        {"clock": datetime.now},
        {"clock": int},
        {"clock": "now"},
        {"clock": long_ago},
        {"state_dir": ""},
        {"state_dir": 5},
    ],
    ids=label,
)
def test_a_vault_is_not_made_by_mistake(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Not a byte of it: the same call, mended, succeeds."""
    key = lb.KeyFile.generate(tmp_path / "key")

    refused(lambda: lb.Vault.create(tmp_path / "v", key, **{"state_dir": None, **asked}))

    assert not (tmp_path / "v").exists()
    lb.Vault.create(tmp_path / "v", key, state_dir=None).close()


@pytest.mark.parametrize(
    "asked",
    [
        {"head": "x"},
        {"head": 5},
        {"head": ""},
        {"storage_options": {"nonsense": 1}},
        {"actor": "user-42"},
        {"clock": datetime.now},
        {"state_dir": 5},
        {"public_key": "x"},
    ],
    ids=label,
)
def test_a_vault_is_not_opened_by_mistake(
    place: tuple[Path, lb.KeyFile], asked: dict[str, Any]
) -> None:
    """The error names the argument's form."""
    refused(lambda: lb.Vault.open(*place, **{"state_dir": None, **asked}))


@pytest.mark.parametrize("url", [5, None, b"/srv/vault", ""], ids=ascii)
def test_what_is_no_address_is_refused(place: tuple[Path, lb.KeyFile], url: Any) -> None:
    """An address is a path or a URL."""
    refused(lambda: lb.Vault.open(url, place[1], state_dir=None))


def test_a_file_is_no_vault(tmp_path: Path, place: tuple[Path, lb.KeyFile]) -> None:
    """Opening one says that there is no vault; creating over one leaves it alone."""
    (tmp_path / "file").write_text("mine")

    with pytest.raises(FormatError) as caught:
        lb.Vault.open(tmp_path / "file", place[1], state_dir=None)
    for single_writer in (True, False):
        with pytest.raises(AlreadyExistsError):
            lb.Vault.create(
                tmp_path / "file", place[1], state_dir=None, single_writer=single_writer
            )

    assert caught.value.kind == "no_vault"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_without_permission_is_an_error_of_the_store() -> None:
    """It says so: to read, and to make a vault in."""
    with folder_for_all() as folder:
        key = lb.KeyFile.generate(folder / "key")
        key.path.chmod(0o644)
        lb.Vault.create(folder / "vault", key, state_dir=None).close()
        (folder / "mine").mkdir(mode=0o755)

        with unprivileged():
            errors: list[LoopbackupError] = []
            for act, where in (
                (lb.Vault.open, "vault"),
                (lb.Vault.create, "mine"),
                (lb.Vault.create, "mine/deeper"),
            ):
                with pytest.raises(StoreError) as caught:
                    act(folder / where, key, state_dir=None)
                errors.append(caught.value)

    assert [error.kind for error in errors] == ["denied"] * 3
    assert all("rights of the account" in str(error) for error in errors)


@pytest.mark.parametrize("secret", [None, b"secret", 5, "", "\ud800secret"], ids=ascii)
def test_what_is_no_passphrase_is_refused(secret: Any) -> None:
    """And is not shown."""
    error = refused(lambda: lb.Passphrase(secret))

    assert "secret" not in str(error)
    assert error.__cause__ is None


def test_a_key_file_is_made_where_one_can_be(tmp_path: Path) -> None:
    """A folder that is not there is the caller's mistake."""
    refused(lambda: lb.KeyFile.generate(tmp_path / "missing" / "key"), match="No such file")
    refused(lb.Passphrase.from_command, match="command")


WRONG: list[Callable[[Any], object]] = [
    lambda vault: vault.backup([lb.Item("a", data=b"")], name="n", include=None),
    lambda vault: vault.backup([lb.Item("a", data=b"")], name="n", source_options=5),
    lambda vault: vault.backup([lb.Item("a", data=b"")], name="n", source_options="x"),
    lambda vault: vault.backup(SURROGATE, name="n"),
    lambda vault: vault.backup("file:x", name="n"),
    lambda vault: vault.restore("latest", "memory://x", target_options=5),
    lambda vault: vault.restore("latest", SURROGATE),
    lambda vault: vault.restore("latest", b"a\0b"),
    lambda vault: vault.restore(None, "x"),
    lambda vault: vault.restore(vault, "x"),
    lambda vault: vault.restore("latest", "x", cancel=lb.Cancel),
    lambda vault: vault.forget(None, reason="test"),
    lambda vault: vault.snapshots(tags=5),
    lambda _: lb.subject_from_path(None),  # type: ignore[arg-type]
    lambda _: lb.KeyFile(None),  # type: ignore[arg-type]
    lambda _: lb.Passphrase.from_file(5),  # type: ignore[arg-type]
    lambda _: lb.Passphrase.from_env(None),  # type: ignore[arg-type]
    lambda _: lb.Passphrase.from_env(SURROGATE),
    lambda _: lb.Vault.create("memory://x", lb.Passphrase("p"), single_writer="yes"),  # type: ignore[arg-type]
    lambda _: lb.Vault.open(SURROGATE, lb.Passphrase("p")),
]


@pytest.mark.parametrize("call", WRONG, ids=map(str, range(len(WRONG))))
def test_argument_of_the_wrong_kind_is_refused(
    vault: lb.Vault, call: Callable[[lb.Vault], object]
) -> None:
    """Before anything is read or written."""
    refused(lambda: call(vault))


def test_times_at_the_ends_of_the_calendar_select_snapshots(vault: lb.Vault) -> None:
    """Also where the same moment in UTC lies beyond them."""
    east = timezone(timedelta(hours=23))

    assert len(vault.snapshots(since=datetime.min.replace(tzinfo=east))) == 1
    assert vault.snapshots(until=datetime.min.replace(tzinfo=east)) == []
