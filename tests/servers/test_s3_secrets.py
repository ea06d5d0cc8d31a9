"""Credentials of a store are in no log, repr, error, record, object or file of this host."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.support import items
from tests.servers.conftest import Bucket, MakeBucket
from tests.servers.processes import REGION, free_port

import loopbackup as lb
from loopbackup.vault.store.registry import open_store
from loopbackup.vault.store.s3.driver import S3Store

PASSPHRASE = "canary-of-a-passphrase"
CANARIES = {
    "key": "CANARYOFANACCESSKEY",
    "secret": "canary-of-a-secret",
    "token": "canary-of-a-token",
}
SECRETS = (PASSPHRASE, *CANARIES.values())


def _shown(value: object) -> str:
    """Give all that people may get to see of a value."""
    html = getattr(value, "_repr_html_", lambda: "")()
    return f"{value!r} {value} {html}"


def _failure(act: Callable[[], object]) -> str:
    """Let *act* fail; give the error with its causes and traceback, pickled too."""
    with pytest.raises((OSError, lb.LoopbackupError, TypeError)) as caught:
        act()
    error = caught.value
    raised = "".join(traceback.format_exception(error))
    carried = str(getattr(error, "context", ""))
    return f"{_shown(error)} {raised} {carried} {pickle.dumps(error)!r}"


def _all_that_fails(bucket: Bucket, options: dict[str, Any]) -> Iterator[str]:
    key = lb.Passphrase(PASSPHRASE)
    client = options["client_kwargs"]

    def opening(url: str = bucket.url, **changed: Any) -> str:
        given: dict[str, Any] = {"storage_options": {**options, **changed}, "state_dir": None}
        return _failure(lambda: lb.Vault.open(url, key, **given))

    yield opening("s3://acme-nowhere/prod")
    yield opening(f"{bucket.url}/nothing-here")
    yield opening(f"s3://{CANARIES['key']}:{CANARIES['secret']}@{bucket.name}/prod")
    yield opening(f"{bucket.url}?token={CANARIES['token']}")
    # A store alone: the seam would try for a minute.
    nobody = {**options, "endpoint_url": f"https://127.0.0.1:{free_port()}"}
    yield _failure(lambda: open_store(bucket.url, nobody).get("a"))
    yield opening(endpoint_url="http://acme.example")
    yield opening(client_kwargs={**client, "verify": False})
    yield opening(client_kwargs={"region_name": REGION})
    yield opening(nonsense=CANARIES["secret"])
    yield opening(client_kwargs={**client, "nonsense": CANARIES["secret"]})
    wrong: dict[str, Any] = {"storage_options": options, "state_dir": None}
    yield _failure(lambda: lb.Vault.open(bucket.url, lb.Passphrase(CANARIES["secret"]), **wrong))
    again: dict[str, Any] = {"storage_options": options, "location": REGION, "state_dir": None}
    yield _failure(lambda: lb.Vault.create(bucket.url, key, **again))


def test_credentials_are_shown_nowhere(
    make_bucket: MakeBucket,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In a run from creation to failures, all that is said, kept and stored is searched."""
    bucket = make_bucket("moto")
    options = {**bucket.server.options(), **CANARIES}
    state = tmp_path / "state"
    shown: list[str] = []
    # What others log while they are debugged is theirs: botocore prints signed requests.
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "loopbackup")

    key = lb.Passphrase(PASSPHRASE)
    given: dict[str, Any] = {"storage_options": options, "state_dir": state}
    with lb.Vault.create(bucket.url, key, location=REGION, **given) as vault:
        snapshot = vault.backup(items({"hello": b"Dear Acme AB"}), name="n", subject="user-42")
        vault.erase_subjects(["user-42"], reason="request 118")
        shown += map(_shown, (vault, snapshot, vault.info(), vault.check(data=True)))
        shown += map(_shown, (vault.prune(), vault.locate(), *vault.ledger.entries()))
    store = open_store(bucket.url, options)
    shown += [_shown(store), _shown(key)]
    shown += _all_that_fails(bucket, options)
    assert isinstance(store, S3Store)
    store.close()

    printed = capfd.readouterr()
    shown += [printed.out, printed.err, caplog.text, *(str(vars(r)) for r in caplog.records)]
    said = "\n".join(shown)
    kept = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    stored = [
        bucket.call("get_object", Key=entry["Key"])["Body"]
        for entry in bucket.call("list_objects_v2")["Contents"]
    ]
    assert "Dear Acme AB" not in said
    assert len(shown) > 20
    assert kept
    assert stored
    for secret in SECRETS:
        assert secret not in said
        assert not [data for data in (*kept, *stored) if secret.encode() in data]
