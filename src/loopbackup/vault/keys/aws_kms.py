"""AWS Key Management Service: the seed of a slot is wrapped by a key that stays there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from ...errors import CredentialError, InputError, InsecureTransport

__all__ = ["AwsKms"]

_T = TypeVar("_T")

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_TRANSIENT: Final = frozenset(
    {
        "DependencyTimeoutException",
        "InternalFailure",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
"""Codes after which the same call may work later, as the service's API reference lists them."""


class AwsKms:
    """
    A symmetric key of AWS KMS, as a credential. Needs ``loopbackup[aws-kms]``.

    Vault and slot are its encryption context, so they stand in CloudTrail, and
    nothing that was wrapped for one slot is unwrapped for another. Who may use
    the key decides its policy; access comes from where boto3 looks for it.

    Args:
        key: Id, ARN or alias (``alias/name``) of the key.
        region: Default as boto3 finds it.
        profile: Likewise.
        endpoint_url: For private endpoints and tests; https, but for loopback.
        allow_insecure_loopback: Allow http to this host.

    Raises:
        InputError: No key, or the extra is not installed.
        InsecureTransport: The endpoint is not https.
    """

    def __init__(
        self,
        key: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        allow_insecure_loopback: bool = False,
    ) -> None:
        given: object = key
        if not isinstance(given, str) or not given:
            raise InputError("the key is an id, ARN or alias of AWS KMS")
        if endpoint_url is not None:
            _refuse_insecure(endpoint_url, loopback=allow_insecure_loopback)
        self._key = key
        self._options = {"region_name": region, "profile_name": profile}
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def region(self) -> str | None:
        """The region of the key, where it is named by its ARN, or *region* was given."""
        parts = self._key.split(":")
        if len(parts) > 3 and parts[0] == "arn":
            return parts[3] or None
        return self._options["region_name"]

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt with the key; CredentialError when the service refuses or cannot be asked."""
        reply = _asked(
            lambda: self._client().encrypt(
                KeyId=self._key, Plaintext=key, EncryptionContext=dict(context)
            )
        )
        return bytes(reply["CiphertextBlob"])

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt with the key; CredentialError as for :meth:`wrap`, or for another context."""
        reply = _asked(
            lambda: self._client().decrypt(
                KeyId=self._key, CiphertextBlob=blob, EncryptionContext=dict(context)
            )
        )
        return bytes(reply["Plaintext"])

    def destroy(self, context: Mapping[str, str]) -> str:
        """
        Refuse: the service deletes whole keys only, and with them all other slots.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "AWS KMS cannot forget what it wrapped for one slot. Schedule the deletion of the key "
            "in AWS, once nothing else needs it",
            kind="unsupported",
        )

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                try:
                    import boto3
                    from botocore.config import Config
                except ImportError as exc:
                    raise InputError("AwsKms needs boto3: install loopbackup[aws-kms]") from exc
                config = Config(
                    connect_timeout=5,
                    read_timeout=10,
                    retries={"max_attempts": 4, "mode": "standard"},
                )
                session = boto3.session.Session(**self._options)
                self._made = session.client("kms", endpoint_url=self._endpoint_url, config=config)
            return self._made

    def __repr__(self) -> str:
        return f"AwsKms({self._key!r})"


def _refuse_insecure(url: str, *, loopback: bool) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK
    ):
        raise InsecureTransport("the key service is asked over https only; nothing was sent")


def _asked(call: Callable[[], _T]) -> _T:
    """Ask the service; its errors come as ours, without what was sent."""
    try:
        return call()
    except Exception as exc:
        error = _translated(exc)
        if error is None:
            raise
        raise error from exc


def _translated(exc: Exception) -> CredentialError | None:
    from botocore import exceptions as aws

    if isinstance(exc, aws.ClientError):
        code = str(exc.response.get("Error", {}).get("Code", ""))
        transient = code in _TRANSIENT
        told = "is overloaded or down" if transient else "refused"
        return CredentialError(f"AWS KMS {told} ({code})", kind="kms", transient=transient)
    if isinstance(exc, aws.NoCredentialsError | aws.PartialCredentialsError | aws.NoRegionError):
        return CredentialError("boto3 finds no access to AWS, or no region", kind="kms")
    if isinstance(exc, aws.HTTPClientError | aws.ConnectionError):
        text = "AWS KMS cannot be reached now"
        return CredentialError(text, kind="kms", transient=True)
    if isinstance(exc, aws.BotoCoreError):
        return CredentialError("AWS KMS cannot be asked so", kind="kms")
    return None
