"""Errors of the S3 client come out as what they mean for a caller."""

from __future__ import annotations

import botocore.exceptions
import pytest

from loopbackup.vault.store.s3.errors import translate


@pytest.mark.parametrize(
    "error",
    [
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://acme.example"),
        botocore.exceptions.ConnectTimeoutError(endpoint_url="https://acme.example"),
        botocore.exceptions.ProxyConnectionError(proxy_url="https://acme.example"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="https://acme.example"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nobody_who_listens_is_no_mistake_of_the_caller(error: Exception) -> None:
    """The same call may work later; whoever cannot be reached may be there again."""
    found = translate(error, "acme.example")

    assert isinstance(found, ConnectionError)
    assert str(found) == f"acme.example: {type(error).__name__}"
