"""AWS KMS as a credential, against moto in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.support import create, items, new_vault, read_all, reopen

from loopbackup import AwsKms
from loopbackup.errors import CredentialError, InputError, InsecureTransport
from loopbackup.vault.keys.kms import KmsKey
from loopbackup.vault.store.memory import MemoryStore

moto = pytest.importorskip("moto", reason="moto is not installed: the extra dev has it")
REGION = "eu-north-1"
CONTEXT = {"vault": "00" * 16, "slot": "11" * 8}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a client of a KMS that lives in this process."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        client = boto3.client("kms", region_name=REGION)
        yield client
        client.close()


@pytest.fixture
def key(aws: Any) -> str:
    """Make a key."""
    return str(aws.create_key()["KeyMetadata"]["KeyId"])


def test_vault_opens_with_a_key_of_the_service(key: str) -> None:
    """Made, opened and moved to another epoch with nothing but the service."""
    store = MemoryStore()
    create(store, credential=KmsKey(AwsKms(key, region=REGION)))

    with reopen(store, credential=KmsKey(AwsKms(key, region=REGION))) as vault:
        vault.backup(items({"a": b"a" * 5000}), name="n")
        expected = read_all(vault)
        vault.keys.rotate()
        vault.backup(items({"b": b"b"}), name="n")
        assert vault.check(data=True).ok

    with reopen(store, credential=KmsKey(AwsKms(key, region=REGION))) as vault:
        assert read_all(vault).items() > expected.items()


def test_each_slot_may_have_a_key_of_its_own(aws: Any, key: str) -> None:
    """A slot that was wrapped by another key is passed over."""
    other = str(aws.create_key()["KeyMetadata"]["KeyId"])
    vault = new_vault()
    vault.keys.add(AwsKms(other, region=REGION))
    slot = vault.keys.add(AwsKms(key, region=REGION))

    with reopen(vault._session.store.store, credential=KmsKey(AwsKms(key, region=REGION))) as again:
        assert again.keys.current == slot
    vault.close()


def test_what_was_wrapped_for_another_slot_is_refused(key: str) -> None:
    """The service binds to vault and slot."""
    kms = AwsKms(key, region=REGION)
    wrapped = kms.wrap(b"s" * 32, CONTEXT)

    assert kms.unwrap(wrapped, CONTEXT) == b"s" * 32
    with pytest.raises(CredentialError) as caught:
        kms.unwrap(wrapped, CONTEXT | {"slot": "22" * 8})

    assert (caught.value.kind, caught.value.transient) == ("kms", False)


def test_key_that_is_gone_or_disabled_opens_nothing_and_is_no_outage(
    aws: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trying again does not help; once it is enabled, opening does."""
    from botocore.exceptions import ClientError

    store = MemoryStore()
    kms = AwsKms(key, region=REGION)
    create(store, credential=KmsKey(kms))

    def disabled(**_sent: object) -> None:
        # The stand-in goes on decrypting with a disabled key; the service says this.
        raise ClientError({"Error": {"Code": "DisabledException", "Message": ""}}, "Decrypt")

    with monkeypatch.context() as patch:
        patch.setattr(kms._client(), "decrypt", disabled)
        with pytest.raises(CredentialError, match="DisabledException") as caught:
            reopen(store, credential=KmsKey(kms))
    assert not caught.value.transient
    with pytest.raises(CredentialError, match="NotFoundException") as caught:
        reopen(store, credential=KmsKey(AwsKms("00" * 16, region=REGION)))
    assert not caught.value.transient

    reopen(store, credential=KmsKey(kms)).close()


@pytest.mark.parametrize(
    ("code", "transient"),
    [("ThrottlingException", True), ("KMSInternalException", True), ("AccessDenied", False)],
)
def test_outage_of_the_service_says_that_trying_again_may_help(
    key: str, monkeypatch: pytest.MonkeyPatch, code: str, transient: bool
) -> None:
    """Its own codes are told apart; the text holds the code and nothing that was sent."""
    from botocore.exceptions import ClientError

    kms = AwsKms(key, region=REGION)

    def fail(**_sent: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "s" * 32}}, "Decrypt")

    monkeypatch.setattr(kms._client(), "decrypt", fail)

    with pytest.raises(CredentialError, match=code) as caught:
        kms.unwrap(b"x", CONTEXT)
    assert caught.value.transient is transient
    assert "ssss" not in str(caught.value)


def test_service_that_cannot_be_reached_is_an_outage(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection, no answer: try again later."""
    from botocore.exceptions import EndpointConnectionError, NoCredentialsError

    kms = AwsKms(key, region=REGION)
    for error, transient in (
        (EndpointConnectionError(endpoint_url="https://kms.example"), True),
        (NoCredentialsError(), False),
    ):

        def fail(error: Exception = error, **_sent: object) -> None:
            raise error

        monkeypatch.setattr(kms._client(), "encrypt", fail)
        with pytest.raises(CredentialError) as caught:
            kms.wrap(b"s" * 32, CONTEXT)
        assert caught.value.transient is transient


def test_key_of_the_service_is_not_destroyed_for_one_slot(key: str) -> None:
    """It would take all other slots with it."""
    with pytest.raises(InputError, match="Schedule the deletion"):
        AwsKms(key, region=REGION).destroy(CONTEXT)


@pytest.mark.parametrize("url", ["http://kms.example", "http://127.0.0.1:5000", "ftp://localhost"])
def test_service_is_asked_over_https_only(url: str) -> None:
    """Refused before the first byte; loopback has to be asked for."""
    with pytest.raises(InsecureTransport):
        AwsKms("alias/x", endpoint_url=url)

    AwsKms("alias/x", endpoint_url="http://127.0.0.1:5000", allow_insecure_loopback=True)
    AwsKms("alias/x", endpoint_url="https://kms.example")
