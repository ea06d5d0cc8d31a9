"""Find out whether a store's exclusive create is exclusive; some say so and overwrite."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ...errors import AlreadyExistsError
from .seam import StoreSeam

__all__ = ["PROBES", "probe_exclusive_create"]

PROBES: Final = "probe/"

_DATA_BYTES = 64
# Only a machine that cannot start the threads needs longer.
_START_S = 60.0


def probe_exclusive_create(store: StoreSeam, *, rounds: int = 3, contenders: int = 32) -> bool:
    """
    Tell whether of many concurrent creates of one name exactly one wins, every time.

    Each round takes a fresh random name below :data:`PROBES` and deletes it again.
    True is evidence, not proof: a race that is never met is not seen.

    Creates go through the seam: a busy store is asked again, and a contender whose
    reply was lost finds his own bytes.

    Raises:
        StoreError: The store failed for another reason than a name that is taken.

    Cost: per round *contenders* puts of 64 bytes, as many gets, one delete.
    """
    with ThreadPoolExecutor(contenders, thread_name_prefix="loopbackup-probe") as executor:
        return all(_one_wins(store, executor, contenders) for _ in range(rounds))


def _one_wins(store: StoreSeam, executor: ThreadPoolExecutor, contenders: int) -> bool:
    key = f"{PROBES}{secrets.token_hex(16)}"
    start = threading.Barrier(contenders, timeout=_START_S)

    def contend() -> bytes | None:
        data = secrets.token_bytes(_DATA_BYTES)
        start.wait()
        try:
            store.put(key, data)
        except AlreadyExistsError:
            return None
        return data

    futures = [executor.submit(contend) for _ in range(contenders)]
    try:
        winners = [data for future in futures if (data := future.result()) is not None]
        return len(winners) == 1 and store.get_whole(key, _DATA_BYTES) == winners[0]
    finally:
        # Not before the last contender is done: it would create the name anew.
        for future in futures:
            future.exception()
        store.delete(key)
