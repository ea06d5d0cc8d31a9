"""What the vault uses of a store: our errors, bounded retries, checked lengths."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Final, TypeVar

from loopbackup.errors import (
    AlreadyExistsError,
    DamagedData,
    LoopbackupError,
    NotFoundError,
    StoreError,
)
from loopbackup.vault.store.protocol import Data, Remains, Store, StoredObject, StoreInfo, is_key

__all__ = ["StoreSeam"]

_T = TypeVar("_T")

# Beyond this many requests no executor gains, and the queue only costs memory.
_MAX_IN_FLIGHT: Final = 64
_WAIT_MAX_S: Final = 5.0


class StoreSeam:
    """
    Call a store so that every outcome is one of ours.

    The one place where builtin errors become :mod:`loopbackup.errors`, and the
    one place that retries. As thread-safe as the store.

    Args:
        store: What to call.
        attempts: How often a call is tried in all while its errors are
            transient; 1 switches retries off.
        timeout_s: No further try is begun after this long.
        wait_s: The first wait between tries; doubled each time up to 5 s, with
            as much jitter again.
    """

    def __init__(
        self, store: Store, *, attempts: int = 6, timeout_s: float = 60.0, wait_s: float = 0.1
    ) -> None:
        self.store = store
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._wait_s = wait_s

    def put(self, key: str, data: Data) -> None:
        """
        Create an object whose name nobody else would give to other bytes.

        For content-named and random names. Retried: a name that is taken is
        read back, and equal bytes are success, because the reply to an earlier
        try may have been lost.

        Raises:
            AlreadyExistsError: Other bytes stand there; nothing was changed.
            StoreError: The store failed; ``ambiguous`` unless it refused.
        """

        def create_or_compare() -> None:
            try:
                self.store.put(key, data, if_absent=True)
            except FileExistsError:
                if self.store.get(key) != data:
                    raise

        self._retried("put", key, create_or_compare)

    def overwrite(self, key: str, data: Data) -> None:
        """
        Create or replace an object.

        Retried, so a late try may undo another client's newer bytes: for
        objects to which every client writes the same.

        Raises:
            StoreError: The store failed; ``ambiguous`` unless it refused.
        """
        self._retried("put", key, lambda: self.store.put(key, data, if_absent=False))

    def create_once(self, key: str, data: Data) -> None:
        """
        Create an object exclusively, in exactly one attempt.

        For ledger records, where only the caller can tell whether a record
        that stands there is his own.

        Raises:
            AlreadyExistsError: The name is taken, perhaps by a try of one's own
                that seemed to fail.
            StoreError: The store failed; when ``ambiguous``, read back.
        """
        _translated("put", key, lambda: self.store.put(key, data, if_absent=True))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """
        Return *length* bytes from *start*, or all up to the end.

        Raises:
            NotFoundError: No such object; kind "object".
            DamagedData: Another number of bytes than *length* came, twice: a
                reply that was cut short and an object that was look alike.
            StoreError: The store failed.
        """

        def fetch() -> bytes:
            return self.store.get(key, start=start, length=length)

        data = self._retried("get", key, fetch)
        if length is not None and len(data) != length:
            data = self._retried("get", key, fetch)
            if len(data) != length:
                raise DamagedData(
                    f"{key} holds {len(data)} bytes from {start}, not {length}.", object=key
                )
        return data

    def get_upto(self, key: str, length: int, *, start: int = 0) -> bytes:
        """
        Return at most *length* bytes from *start*; fewer where the object ends.

        Raises:
            NotFoundError, StoreError: As :meth:`get`.
        """
        return self._retried("get", key, lambda: self.store.get(key, start=start, length=length))

    def get_many(
        self,
        ranges: Iterable[tuple[str, int, int]],
        executor: Executor,
        *,
        max_in_flight_bytes: int = 64 << 20,
    ) -> Iterator[bytes]:
        """
        Yield the bytes of each ``(key, start, length)``, in order, fetched ahead by *executor*.

        *ranges* is read as needed. Asked for and not yet yielded are at most
        *max_in_flight_bytes*, or one range, and 64 requests. The first error
        is raised in its place in the order and ends the run; what was asked
        for beyond it is cancelled.

        Raises:
            NotFoundError, DamagedData, StoreError: As :meth:`get`.
        """
        pending: deque[tuple[Future[bytes], int]] = deque()
        in_flight_bytes = 0
        try:
            for key, start, length in ranges:
                while pending and (
                    in_flight_bytes + length > max_in_flight_bytes or len(pending) >= _MAX_IN_FLIGHT
                ):
                    future, size = pending.popleft()
                    yield future.result()
                    in_flight_bytes -= size
                future = executor.submit(self.get, key, start=start, length=length)
                pending.append((future, length))
                in_flight_bytes += length
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """
        Iterate over the objects whose keys begin with *prefix*, in any order.

        The listing is complete before the first is returned: one that fails
        half-way can be retried without showing an object twice. Names that are
        no keys are left out: they are not ours. Memory: about 300 bytes an
        object; list by a longer prefix where that is too much.

        Raises:
            StoreError: The store failed.
        """
        found = self._retried("list", prefix, lambda: tuple(self.store.list(prefix)))
        return (entry for entry in found if is_key(entry.key))

    def delete(self, key: str) -> Remains:
        """
        Delete an object, which may be gone already; return what is left of it.

        Raises:
            StoreError: The store failed or refused; ``ambiguous`` unless it refused.
        """
        return self._retried("delete", key, lambda: self.store.delete(key))

    def describe(self) -> StoreInfo:
        """
        Say what the store can do.

        Raises:
            StoreError: The store failed.
        """
        return self._retried("describe", "", self.store.describe)

    def _retried(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        try:
            return _translated(verb, key, call)
        except StoreError as error:
            if not error.transient or self._attempts <= 1:
                raise
        # The second try follows at once: most first failures are connections
        # that the far side closed while idle. It also keeps the retry library
        # out of a start that needs none.
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_attempt(self._attempts - 1)
            | tenacity.stop_after_delay(self._timeout_s),
            wait=tenacity.wait_exponential(
                multiplier=self._wait_s, max=max(self._wait_s, _WAIT_MAX_S)
            )
            + tenacity.wait_random(0, self._wait_s),
            reraise=True,
        )
        result: _T = retrying(_translated, verb, key, call)
        return result


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.transient


def _translated(verb: str, key: str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except LoopbackupError:
        raise
    except OSError as exc:
        raise _error(exc, verb, key) from exc


def _error(exc: OSError, verb: str, key: str) -> LoopbackupError:
    # Never str(exc): a driver's text may hold a URL, and a URL a password.
    if isinstance(exc, FileNotFoundError) and verb == "get":
        return NotFoundError(f"no such object: {key}", kind="object", object=key)
    if isinstance(exc, FileExistsError) and verb == "put":
        return AlreadyExistsError(f"object exists: {key}", object=key)
    kind, advice = _kind(exc)
    reason = os.strerror(exc.errno) if exc.errno else type(exc).__name__
    refused = kind in ("denied", "read_only")
    return StoreError(
        f"{verb} {key}".rstrip() + f" failed: {reason}.{advice}",
        kind=kind,
        object=key,
        transient=isinstance(exc, ConnectionError | TimeoutError),
        # A full disk counts too: what failed may be the last step of a write.
        ambiguous=verb in ("put", "delete") and not refused,
    )


def _kind(exc: OSError) -> tuple[str, str]:
    if isinstance(exc, PermissionError):
        return "denied", " The store refused it: check the rights of the account in use."
    if exc.errno == errno.EROFS:
        return "read_only", " The file system is mounted read-only."
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "full", " Make room or raise the quota, then try again."
    return StoreError.default_kind, ""
