"""The rights that the page about S3 asks for are those that the driver uses."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import loopbackup

ROOT = Path(__file__).parents[2]
DRIVER = Path(loopbackup.__file__).parent / "vault/store/s3"

# "Actions, resources, and condition keys for Amazon S3", service authorization reference.
NEEDS = {
    "delete_object": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "get_bucket_lifecycle_configuration": {"s3:GetLifecycleConfiguration"},
    "get_bucket_replication": {"s3:GetReplicationConfiguration"},
    "get_bucket_versioning": {"s3:GetBucketVersioning"},
    "get_object": {"s3:GetObject"},
    "get_object_lock_configuration": {"s3:GetBucketObjectLockConfiguration"},
    "head_bucket": {"s3:ListBucket"},
    "head_object": {"s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"},
    "list_object_versions": {"s3:ListBucketVersions"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject", "s3:PutObjectRetention"},
}


def _operations() -> Iterator[str]:
    """Give what the driver calls, by the names that botocore has for it."""
    from botocore.session import Session

    known = {
        re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        for name in Session().get_service_model("s3").operation_names
    }
    for module in DRIVER.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and node.value in known:
                yield str(node.value)
            if isinstance(node, ast.Attribute) and node.attr in known:
                yield node.attr


def test_the_policy_of_the_page_has_what_is_used_and_no_more() -> None:
    """An action that is missing fails some day; one too many is a right too many."""
    page = (ROOT / "docs/how-to/s3.md").read_text("utf-8")
    match = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert match is not None
    asked = [a for part in json.loads(match[1])["Statement"] for a in part["Action"]]

    used = set(_operations())

    assert used == set(NEEDS)
    assert sorted(asked) == sorted(set().union(*NEEDS.values()))
