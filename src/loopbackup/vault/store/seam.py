"""What the vault uses of a store: our errors, bounded retries, checked lengths."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar

from ...errors import (
    AlreadyExistsError,
    DamagedData,
    LoopbackupError,
    NotFoundError,
    StoreError,
)
from .protocol import (
    Data,
    Remains,
    Store,
    StoredObject,
    StoreInfo,
    attempts_of,
    concurrency_of,
    is_key,
)

__all__ = ["StoreSeam"]

_T = TypeVar("_T")

MAX_OBJECT_BYTES: Final = 1 << 32
"""More than any object of the format may have, whatever its kind."""
MAX_LISTED: Final = 100_000_000
"""So many packs hold petabytes: a listing that goes on beyond it would never end."""
_WAIT_MAX_S: Final = 5.0
# The medium or the file system's checksums of it; a link or a folder in the
# object's place. Some systems lack some of the names.
_UNREADABLE: Final = frozenset(
    getattr(errno, name, errno.EIO)
    for name in ("EIO", "ENXIO", "ENODATA", "EBADMSG", "EUCLEAN", "EILSEQ")
) | {errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EINVAL}
"""What is wrong with the one object that is read, and not with the store."""


class StoreSeam:
    """
    Call a store so that every outcome is one of ours.

    The one place where builtin errors become :mod:`loopbackup.errors`, and the
    one place that retries. As thread-safe as the store.

    Args:
        store: What to call.
        attempts: How often a call is tried in all while its errors are
            transient; 1 switches retries off. By default what the store says as
            ``attempts``.
        timeout_s: No further try is begun after this long.
        wait_s: The first wait between tries; doubled each time up to 5 s, with
            as much jitter again.
        max_listed: The longest listing that is believed.
    """

    def __init__(
        self,
        store: Store,
        *,
        attempts: int | None = None,
        timeout_s: float = 60.0,
        wait_s: float = 0.1,
        max_listed: int = MAX_LISTED,
    ) -> None:
        self.store = store
        self._attempts = attempts or attempts_of(store)
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._max_listed = max_listed
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    @property
    def is_distant(self) -> bool:
        """Whether it pays to ask for things before they are needed."""
        return concurrency_of(self.store) > 1

    @property
    def threads(self) -> Executor:
        """As many threads as requests at once pay; none of them ever waits for another."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    concurrency_of(self.store), thread_name_prefix="loopbackup-store"
                )
            return self._threads

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
                found = None
                with suppress(FileNotFoundError):
                    found = self.store.get(key, length=memoryview(data).nbytes + 1)
                if found != data:
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

        Without *length* it is bounded by what any object may have, 4 GiB; where
        the kind of the object is known, :meth:`get_whole` bounds it better.

        Raises:
            NotFoundError: No such object; kind "object".
            DamagedData: Another number of bytes than *length* came, twice: a
                reply that was cut short and an object that was look alike. Kind
                "unreadable": the object cannot be read, as by a bad sector, and
                others may well be. Kind "oversized": it is longer than any is.
            StoreError: The store failed.
        """
        if length is None:
            return self._bounded(key, start, MAX_OBJECT_BYTES)
        data = self.get_upto(key, length, start=start)
        if len(data) != length:
            data = self.get_upto(key, length, start=start)
            if len(data) != length:
                raise DamagedData(
                    f"{key} holds {len(data)} bytes from {start}, not {length}.", object=key
                )
        return data

    def get_whole(self, key: str, max_bytes: int) -> bytes:
        """
        Return a whole object, whose kind allows it *max_bytes*.

        Memory: what comes, at most one byte more than *max_bytes*.

        Raises:
            DamagedData: Kind "oversized": it is longer; else as :meth:`get`.
            NotFoundError, StoreError: As :meth:`get`.
        """
        return self._bounded(key, 0, max_bytes)

    def _bounded(self, key: str, start: int, max_bytes: int) -> bytes:
        data = self.get_upto(key, max_bytes + 1, start=start)
        if len(data) > max_bytes:
            raise DamagedData(
                f"{key} holds more than {max_bytes:,} bytes, which no object of its kind does",
                kind="oversized",
                object=key,
            )
        return data

    def get_upto(self, key: str, length: int, *, start: int = 0) -> bytes:
        """
        Return at most *length* bytes from *start*; fewer where the object ends.

        Raises:
            NotFoundError, DamagedData, StoreError: As :meth:`get`.
        """
        data = self._retried("get", key, lambda: self.store.get(key, start=start, length=length))
        if len(data) > length:
            raise DamagedData(
                f"{len(data)} bytes came where {length} of {key} were asked for", object=key
            )
        return data

    def get_each(
        self, keys: Iterable[str], executor: Executor, *, max_bytes: int, ahead: int = 32
    ) -> Iterator[bytes]:
        """
        Yield the whole objects that *keys* name, in order, fetched ahead.

        By *executor*, or, of a distant store, by :attr:`threads`.

        *keys* is read as needed. Asked for and not yet yielded are at most
        *ahead* objects. The first error is raised in its place in the order and
        ends the run; what was asked for beyond it is cancelled.

        Raises:
            NotFoundError, DamagedData, StoreError: As :meth:`get_whole`.
        """
        threads = self.threads if self.is_distant else executor
        pending: deque[Future[bytes]] = deque()
        try:
            for key in keys:
                if len(pending) >= ahead:
                    yield pending.popleft().result()
                pending.append(threads.submit(self.get_whole, key, max_bytes))
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """
        Iterate over the objects whose keys begin with *prefix*, in any order.

        The listing is complete before the first is returned: one that fails
        half-way can be retried without showing an object twice. Names that are
        no keys are left out: they are not ours. Memory: about 300 bytes an
        object; list by a longer prefix where that is too much.

        Raises:
            StoreError: The store failed. Kind "endless": it listed more than
                a hundred million objects, and was not asked for the rest.
        """

        def fetch() -> tuple[StoredObject, ...]:
            return tuple(islice(self.store.list(prefix), self._max_listed + 1))

        found = self._retried("list", prefix, fetch)
        if len(found) > self._max_listed:
            raise StoreError(
                f"the listing of {prefix or 'everything'} was given up after "
                f"{self._max_listed:,} objects",
                kind="endless",
                object=prefix,
            )
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

    def close(self) -> None:
        """End the threads, and let the store close its connections, if it keeps any."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)
        close = getattr(self.store, "close", None)
        if close is not None:
            close()

    def _retried(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        try:
            return _translated(verb, key, call)
        except StoreError as error:
            if not error.transient or self._attempts <= 1:
                raise
            may_have_landed = error.ambiguous
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
        try:
            result: _T = retrying(_translated, verb, key, call)
        except StoreError as error:
            # A later refusal says nothing of an earlier try.
            error.context["ambiguous"] = error.ambiguous or may_have_landed
            raise
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
    if verb == "get" and exc.errno in _UNREADABLE:
        return DamagedData(
            f"{key} cannot be read: {os.strerror(exc.errno or 0)}", kind="unreadable", object=key
        )
    kind, advice = _kind(exc)
    reason = os.strerror(exc.errno) if exc.errno else type(exc).__name__
    told = getattr(exc, "code", None)
    if isinstance(told, str):
        reason = told
    refused = isinstance(exc, PermissionError) or kind in ("read_only", "no_container")
    return StoreError(
        f"{verb} {key}".rstrip() + f" failed: {reason}.{advice}",
        kind=kind,
        object=key,
        transient=isinstance(exc, ConnectionError | TimeoutError),
        # A full disk counts too: what failed may be the last step of a write.
        ambiguous=verb in ("put", "delete") and not refused,
    )


# What drivers say by an errno, as the contract of stores has it: kind, and what to do.
_TOLD: Final = {
    errno.ENODEV: ("no_container", " There is no such bucket or container: check the URL."),
    errno.ETIME: ("clock_skew", " This machine's clock is wrong: set it."),
    getattr(errno, "EKEYEXPIRED", None): (
        "expired_credentials",
        " The store's credentials have expired: get new ones and open the vault again.",
    ),
    getattr(errno, "EKEYREJECTED", None): (
        "wrong_credentials",
        " The store knows no such credentials: check storage_options.",
    ),
    getattr(errno, "ENOMEDIUM", None): (
        "archived",
        " It lies in an archive: restore it there, and keep lifecycle rules off the vault.",
    ),
}


def _kind(exc: OSError) -> tuple[str, str]:
    if exc.errno in _TOLD:
        return _TOLD[exc.errno]
    if isinstance(exc, PermissionError):
        return "denied", " The store refused it: check the rights of the account in use."
    if exc.errno == errno.EROFS:
        return "read_only", " The file system is mounted read-only."
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "full", " Make room or raise the quota, then try again."
    return StoreError.default_kind, ""
