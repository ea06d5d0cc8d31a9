"""
Logging through structlog, never configured by this library.

Where the host has not configured structlog, its default would print to the
host's standard output; then events go to the standard library's logger
``loopbackup``, which is silent until the host asks for it.
"""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["get_logger"]

logging.getLogger("loopbackup").addHandler(logging.NullHandler())


def get_logger() -> Any:
    """Give the library's logger; cheap, but not for import time."""
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("loopbackup")
    return structlog.wrap_logger(
        logging.getLogger("loopbackup"),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
