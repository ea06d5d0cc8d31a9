"""What stands for AWS: its host names lead to a server of ours, which tells what it was asked."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from attrs import define
from tests.servers.processes import KEY, SECRET, Certificates

from loopbackup.vault.store.s3.driver import S3Store

REGION = "eu-west-1"
REGIONS = (REGION, "eu-north-1", "us-west-2", "eu-west-2", "eu-central-2")
HOSTS = [f"s3.{region}.amazonaws.com" for region in REGIONS]


@define
class Aws:
    """What stands for AWS: its host names lead to a server of ours, with a certificate for them."""

    proxy: str
    certificates: Certificates
    log: Path

    def options(self, region: str = REGION) -> dict[str, Any]:
        """Reach it; no endpoint is named, as for AWS itself."""
        return {
            "key": KEY,
            "secret": SECRET,
            "client_kwargs": {"region_name": region, "verify": str(self.certificates.authority)},
            "config_kwargs": {
                "proxies": {"https": self.proxy},
                "s3": {"addressing_style": "path"},
            },
        }

    def bucket(self, region: str) -> str:
        """Make a bucket in *region*; give a URL in it."""
        store = S3Store(f"s3://acme-{secrets.token_hex(6)}/prod", **self.options(region))
        where = {"LocationConstraint": region}
        store._client.call("create_bucket", Bucket=store.bucket, CreateBucketConfiguration=where)
        store.close()
        return f"s3://{store.bucket}/prod"

    def requests(self) -> list[str]:
        """Give what was asked so far, each as ``HEAD /bucket``."""
        return re.findall(r'"([A-Z]+ /[^ ]*) HTTP', self.log.read_text())
