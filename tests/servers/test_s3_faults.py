"""What networks, services and accounts do to a vault in a bucket: nothing committed is lost."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from attrs import define
from tests.e2e.support import items, noise
from tests.servers.conftest import Servers
from tests.servers.front import Fault, Front, in_front_of
from tests.servers.processes import KEY, REGION, SECRET

import loopbackup as lb
from loopbackup.errors import LoopbackupError, StoreError
from loopbackup.vault.store.s3.driver import S3Store
from loopbackup.vault.store.seam import StoreSeam

PASSPHRASE = lb.Passphrase("correct horse battery staple")
MIB = 1 << 20


@define
class Place:
    """A bucket behind a front."""

    front: Front
    url: str

    @property
    def options(self) -> dict[str, Any]:
        """Reach it."""
        return {
            "key": KEY,
            "secret": SECRET,
            "endpoint_url": self.front.endpoint,
            "client_kwargs": {"region_name": REGION},
        }

    @contextmanager
    def vault(self, *, create: bool = False, **more: Any) -> Iterator[lb.Vault]:
        """Open the vault for the block, made before if need be."""
        act = lb.Vault.create if create else lb.Vault.open
        given: dict[str, Any] = {"state_dir": None, **more}
        if create:
            given["location"] = REGION
        with act(
            self.url,
            PASSPHRASE,
            storage_options=self.options,
            allow_insecure_loopback=True,
            **given,
        ) as vault:
            yield vault

    def store(self) -> S3Store:
        """Give a handle."""
        return S3Store(self.url, allow_insecure_loopback=True, **self.options)


@pytest.fixture
def place(servers: Servers) -> Iterator[Place]:
    """Give an empty bucket behind a front."""
    with in_front_of(servers("plain-moto").endpoint) as front:
        found = Place(front, f"s3://acme-{secrets.token_hex(6)}/prod")
        with closing(found.store()) as store:
            where = {"LocationConstraint": REGION}
            store._client.call(
                "create_bucket", Bucket=store.bucket, CreateBucketConfiguration=where
            )
        yield found


def data(name: str) -> dict[str, bytes]:
    """Give contents that fill a few packs of a small vault."""
    return {f"{name}/{n}": noise(400_000, f"{name}{n}") for n in range(6)}


def test_lost_replies_and_cut_bodies_change_nothing(place: Place) -> None:
    """Every third reply is lost or cut in half; each run commits once, and all is whole."""
    asked: Counter[str] = Counter()

    def third(method: str, _path: str) -> Fault | None:
        asked[method] += 1
        if asked[method] % 3 != 1:
            return None
        return "truncate" if method == "GET" else "lose"

    with place.vault(create=True, grace_s=0) as vault:
        vault._session.store._wait_s = 0.001
        place.front.rule = third
        for number in range(3):
            vault.backup(items(data(str(number))), name="n")
        vault.forget(vault.snapshots()[-1], reason="old")
        vault.prune()
        place.front.rule = lambda _m, _p: None

        assert len(vault.snapshots()) == 2
        assert vault.check(data=True).ok
    assert min(asked["GET"], asked["PUT"], asked["DELETE"]) > 1


def test_busy_service_is_asked_again(place: Place) -> None:
    """Twelve times in a row it says that it is too busy; the run goes on."""
    left = [12]

    def busy(method: str, _path: str) -> Fault | None:
        if method == "PUT" and left[0] > 0:
            left[0] -= 1
            return 503, "SlowDown"
        return None

    with place.vault(create=True) as vault:
        vault._session.store._wait_s = 0.001
        place.front.rule = busy
        snapshot = vault.backup(items({"a": b"a" * 1000}), name="n")

        assert left == [0]
        assert snapshot.open("a").read() == b"a" * 1000


def test_store_that_is_gone_in_mid_run_loses_nothing(place: Place) -> None:
    """The run ends with a transient error, what was committed stands, the next run goes on."""
    with place.vault(create=True) as vault:
        vault._session.store._attempts = 2
        first = vault.backup(items(data("first")), name="n")
        after = [1]

        def gone(method: str, _path: str) -> Fault | None:
            after[0] -= method == "PUT"
            return "refuse" if after[0] < 0 else None

        place.front.rule = gone
        with pytest.raises(StoreError) as caught:
            vault.backup(items(data("first") | data("second")), name="n")
        place.front.rule = lambda _m, _p: None

        assert caught.value.transient
        assert [s.id for s in vault.snapshots()] == [first.id]
        second = vault.backup(items(data("first") | data("second")), name="n")
        assert second.open("second/5").read() == noise(400_000, "second5")
        assert vault.check(data=True).ok


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", "denied"),
        (400, "ExpiredToken", "expired_credentials"),
        (403, "RequestTimeTooSkewed", "clock_skew"),
        (403, "InvalidAccessKeyId", "wrong_credentials"),
        (507, "XMinioStorageFull", "full"),
    ],
)
def test_refusal_in_mid_run_is_told_and_loses_nothing(
    place: Place, status: int, code: str, kind: str
) -> None:
    """It is not tried again, says what to do, and the next run with better rights goes on."""
    with place.vault(create=True) as vault:
        first = vault.backup(items(data("first")), name="n")
        place.front.rule = lambda method, _: (status, code) if method == "PUT" else None
        place.front.reset()
        with pytest.raises(StoreError) as caught:
            vault.backup(items(data("second")), name="n")
        place.front.rule = lambda _m, _p: None

        assert (caught.value.kind, caught.value.transient) == (kind, False)
        assert [s.id for s in vault.snapshots()] == [first.id]
        vault.backup(items(data("second")), name="n")
        assert vault.check(data=True).ok


def test_account_that_may_not_delete_prunes_as_far_as_it_can(place: Place) -> None:
    """What stays is counted and tried again; no snapshot suffers."""
    with place.vault(create=True, grace_s=0) as vault:
        gone = vault.backup(items(data("gone")), name="n")
        vault.backup(items(data("kept")), name="n")
        vault.forget(gone, reason="old")
        place.front.rule = lambda method, _: (403, "AccessDenied") if method == "DELETE" else None
        refused = vault.prune()
        place.front.rule = lambda _m, _p: None
        done = vault.prune()

        assert refused.swept == 0
        assert done.swept > 0
        assert vault.check(data=True).ok


def test_account_that_may_only_read_opens_read_only(place: Place) -> None:
    """It restores; a backup is refused by the store, and says so."""
    with place.vault(create=True) as vault:
        vault.backup(items(data("first")), name="n")
    place.front.rule = lambda method, _: (
        (403, "AccessDenied") if method in ("PUT", "DELETE", "POST") else None
    )
    with place.vault(read_only=True) as vault:
        assert vault.snapshot("latest").open("first/3").read() == noise(400_000, "first3")
    with pytest.raises(StoreError) as caught, place.vault() as vault:
        vault.backup(items(data("second")), name="n")

    assert caught.value.kind == "denied"


def test_account_that_may_not_read_is_told(place: Place) -> None:
    """No vault is guessed from a refusal."""
    with place.vault(create=True):
        pass
    place.front.rule = lambda method, _: (403, "AccessDenied") if method == "GET" else None

    with pytest.raises(StoreError) as caught, place.vault():
        pass

    assert caught.value.kind == "denied"


def test_creation_whose_replies_are_lost_is_whole(place: Place) -> None:
    """Each of its writes took effect once; a lost reply is no other's vault."""
    seen: set[str] = set()

    def first_time(method: str, path: str) -> Fault | None:
        if method != "PUT" or path in seen:
            return None
        seen.add(path)
        return "lose"

    place.front.rule = first_time
    with place.vault(create=True) as vault:
        vault.backup(items({"a": b"a"}), name="n")
    with place.vault() as vault:
        assert vault.snapshot("latest").open("a").read() == b"a"


def test_body_that_is_always_cut_is_an_error_and_no_short_read(place: Place) -> None:
    """The store says that it failed; whoever asked gets no part of the object."""
    with closing(place.store()) as store:
        store.put("a", b"0123456789" * 100, if_absent=True)
        place.front.rule = lambda method, _: "truncate" if method == "GET" else None
        with pytest.raises(StoreError) as caught:
            StoreSeam(store, attempts=3, wait_s=0).get("a")

    assert caught.value.transient


def test_no_error_holds_a_secret(place: Place) -> None:
    """Neither in its text nor in what it was made from."""
    with closing(place.store()) as store:
        replies = [(403, "SignatureDoesNotMatch"), (400, "ExpiredToken"), (500, "InternalError")]
        place.front.rule = lambda _m, _p: replies[0]
        while replies:
            with pytest.raises(LoopbackupError) as caught:
                StoreSeam(store, attempts=1).get("a")
            error: BaseException | None = caught.value
            while error is not None:
                assert SECRET not in repr(error)
                assert KEY not in repr(error)
                error = error.__cause__ or error.__context__
            replies.pop(0)


def test_page_of_a_proxy_is_no_store(place: Place) -> None:
    """What answers 200 to everything has stored, deleted and listed nothing; it is asked again."""
    with place.vault(create=True, grace_s=0) as vault:
        vault.backup(items({"a": b"1"}), name="n")
        left = [12]

        def page(_method: str, _path: str) -> Fault | None:
            left[0] -= 1
            return (200, "back soon") if left[0] >= 0 else None

        vault._session.store._wait_s = 0.001
        place.front.rule = page
        vault.backup(items({"a": b"2"}), name="n")
        left[0] = 10**6
        with closing(place.store()) as store:
            for act in (
                lambda: store.put("packs/x", b"1", if_absent=True),
                lambda: store.get("vault"),
                lambda: list(store.list("")),
                lambda: store.delete("packs/x"),
            ):
                with pytest.raises(ConnectionError):
                    act()
        place.front.rule = lambda _m, _p: None
    with place.vault() as vault:
        assert len(vault.snapshots()) == 2
        assert vault.check(data=True).ok
