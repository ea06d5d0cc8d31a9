"""Declare the optional C core of the chunker; everything else stands in pyproject.toml."""

import os
import sysconfig

from setuptools import Extension, setup

# Free-threaded builds of Python up to 3.14 have no stable ABI, and asking for
# an abi3 wheel there is an error. They use the pure-Python twin.
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")

CHUNKER = "src/loopbackup/vault/content/chunker"

jpc = Extension(
    "loopbackup.vault.content.chunker._jpc",
    sources=[f"{CHUNKER}/_jpc.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-O3"] if os.name == "posix" else [],
    py_limited_api=True,
    # No compiler, no core: the twin gives the same cuts, more slowly.
    optional=True,
)

if HAS_STABLE_ABI:
    setup(ext_modules=[jpc], options={"bdist_wheel": {"py_limited_api": "cp311"}})
else:
    setup()
