"""What a vault in a bucket costs: requests, counted as HTTP requests in front of a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.e2e.support import items, noise
from tests.servers.test_s3_faults import Place, place  # noqa: F401  # a fixture

MIB = 1 << 20
REVIEW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a tree: two large files, and very many small ones in folders."""
    folder = tmp_path / "source"
    for number in range(40):
        (folder / f"d{number}").mkdir(parents=True)
        for name in range(50):
            (folder / f"d{number}" / f"{name}.txt").write_bytes(noise(400, f"{number}/{name}"))
    for number in range(2):
        (folder / f"large{number}").write_bytes(noise(50 * MIB, str(number)))
    return folder


def total(place: Place) -> int:  # noqa: F811
    """Say how many requests there were since the last time."""
    return sum(place.front.reset().values())


def test_requests_stay_within_the_budget(place: Place, source: Path, tmp_path: Path) -> None:  # noqa: F811
    """Few of them: one a pack and twenty at first, twelve for a run that finds nothing new."""
    state = tmp_path / "state"
    with place.vault(create=True, state_dir=state) as vault:
        total(place)
        vault.backup(source, name="n")
        first = place.front.reset()
        packs = sum(1 for _ in vault._session.store.list("packs/"))
        total(place)
        vault.backup(source, name="n")
        again = total(place)
        vault.restore("latest", tmp_path / "out")
        restore = total(place)

    assert packs >= 4
    assert sum(first.values()) <= 1.1 * packs + 20
    assert first["HEAD"] == 0
    assert again <= 12
    # Stretches of some 5 MiB, and not a request a file.
    assert restore <= 100 / 4 + 20


def test_opening_takes_five_requests(place: Place, tmp_path: Path) -> None:  # noqa: F811
    """With what this machine remembers; without, five and one for each record since a summary."""
    state = tmp_path / "state"
    with place.vault(create=True, state_dir=state) as vault:
        for _ in range(3):
            vault.backup(items({"a": b"a"}), name="n")
        records = vault.info().records
    total(place)
    with place.vault(state_dir=state):
        known = total(place)
    with place.vault(state_dir=None):
        unknown = place.front.reset()

    assert known <= 5
    assert sum(unknown.values()) == 5 + records
    assert records <= 5


def test_long_ledger_is_opened_from_its_summary(place: Place) -> None:  # noqa: F811
    """Whoever knows nothing reads at most the 64 records since the newest summary."""
    with place.vault(create=True) as vault:
        for number in range(70):
            vault.hold(("acme", f"user-{number}"), reason="case 17", review_at=REVIEW)
        records = vault.info().records
    place.front.reset()
    with place.vault():
        asked = sum(place.front.reset().values())

    assert records > 70
    assert asked <= records - 64 + 8
