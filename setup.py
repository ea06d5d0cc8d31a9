"""Declare the optional C parts; everything else stands in pyproject.toml."""

import sys
import sysconfig

from setuptools import Extension, setup

# Free-threaded builds of Python up to 3.14 have no stable ABI, and asking for
# an abi3 wheel there is an error. They use the pure-Python twins.
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

VAULT = "src/loopbackup/vault"


def extension(name: str, source: str) -> Extension:
    """Describe a part in C of which Python has a twin: no compiler, no part."""
    return Extension(
        f"loopbackup.vault.{name}",
        sources=[f"{VAULT}/{source}"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=[] if sys.platform == "win32" else ["-O3"],
        py_limited_api=True,
        optional=True,
    )


parts = [extension("content.chunker._jpc", "content/chunker/_jpc.c")]
if sys.platform == "linux":
    parts.append(extension("disk._disk", "disk/_disk.c"))

if HAS_STABLE_ABI:
    setup(ext_modules=parts, options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
