"""An open vault as the verbs see it: its parts, who may do what, and the audit trail."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from attrs import define, field
from msgspec import Struct

from ...errors import InputError, LoopbackupError, PolicyError
from ...logs import get_logger
from ...terms import MAX_REASON_CHARS, Action, Actor, Decision, Facts, Gate
from ..content.chunker.params import ChunkerParams
from ..content.index import Index
from ..content.reader import ChunkReader
from ..format import codec, seal
from ..format import record as rec
from ..format.header import Header
from ..format.seal import Kind
from ..keys.keyring import Keyring
from ..ledger.log import Body, Draft, Log
from ..store.seam import StoreSeam

__all__ = ["UNNAMED", "AuditBody", "Session"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNNAMED = Actor("unnamed")
"""Acts where the host names nobody."""


class AuditBody(Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Who did it and why; sealed under the audit key of the month."""

    actor: str
    roles: list[str] = []
    purpose: str | None = None
    ip: str | None = None
    device: str | None = None
    action: str = ""
    reason: str | None = None
    policy: str = ""
    details: dict[str, str] = {}


@define(eq=False)
class Session:
    """The parts of an open vault. Thread-safe; closed once."""

    url: str
    store: StoreSeam
    header: Header
    log: Log
    keyring: Keyring
    index: Index
    reader: ChunkReader
    gate: Gate
    read_only: bool
    own_folder: frozenset[tuple[int, int]] = frozenset()
    """Device and inode of the vault's folder, so that it is never its own source or target."""
    credential_paths: tuple[Path, ...] = ()
    """Absolute paths of the files that the vault was opened with."""
    opened_marks: object = None
    """What :func:`.standing.standing` keeps, and nobody else looks at."""
    _executor: ThreadPoolExecutor | None = None
    _fetchers: ThreadPoolExecutor | None = None
    _lock: threading.Lock = field(factory=threading.Lock)
    _closed: bool = False
    _looked: Counter[Actor] = field(factory=Counter)
    _refused: Counter[tuple[Actor, str]] = field(factory=Counter)
    """By actor and action."""
    _reasons: dict[tuple[Actor, str], str] = field(factory=dict)
    """Why it was refused at first."""

    # ---- may it be done

    def begin(self, action: Action, actor: Actor, facts: Facts | None = None) -> None:
        """
        Ask the gate, fold what was committed since, and look for what was lost.

        Raises:
            PolicyError: The gate refused; gathered for the ledger.
            InputError: The vault is closed.
        """
        self.check_open()
        facts = facts or Facts(actor=actor)
        decision = self.gate.decide(action, facts, at=self.log.now())
        if not decision.allowed:
            self._refuse(action, actor, decision)
        self.log.refresh()
        self.index.look_again()

    def _refuse(self, action: Action, actor: Actor, decision: Decision) -> None:
        with self._lock:
            self._refused[actor, str(action)] += 1
            reasons = "; ".join(decision.reasons)[:MAX_REASON_CHARS]
            self._reasons.setdefault((actor, str(action)), reasons)
        raise PolicyError(f"{action} {decision}", decision=decision, action=str(action))

    def check_open(self) -> None:
        """Raise InputError when the vault is closed or was inherited by a fork."""
        if self._closed:
            raise InputError("this vault is closed; open it again")
        self.log.check_process()

    def own_secrets(self) -> frozenset[tuple[int, int]]:
        """Give device and inode of the files that open this vault, wherever they are linked."""
        found = set()
        for path in self.credential_paths:
            with contextlib.suppress(OSError):
                status = path.stat()
                found.add((status.st_dev, status.st_ino))
        return frozenset(found)

    def check_writable(self) -> None:
        """Raise InputError when the vault was opened for reading only."""
        if self.read_only:
            raise InputError("this vault is open for reading only; open it without read_only=True")

    # ---- the audit trail

    def audit(
        self, actor: Actor, action: str, *, reason: str | None = None, **details: Any
    ) -> Body:
        """Seal who acts and why, for a ledger record."""
        month = self.log.now().strftime("%Y-%m").encode()
        body = AuditBody(
            actor=actor.id,
            roles=sorted(actor.roles),
            purpose=actor.purpose,
            ip=actor.ip,
            device=actor.device,
            action=action,
            reason=reason,
            policy=self.gate.digest,
            details={k: str(v) for k, v in details.items()},
        )
        return self.body("audit", month, codec.encode(body))

    def body(self, key: str, ref: bytes, payload: bytes) -> Body:
        """Seal a body for a ledger record."""
        sealed = seal.seal(
            self.keyring.body_key(key, ref), Kind.BODY, self.header.vault_id, payload, pad=256
        )
        return Body(key, ref, sealed)

    def open_body(self, ref: rec.BodyRef, data: bytes) -> bytes:
        """Open a body of a ledger record."""
        key = self.keyring.body_key(ref.key, ref.ref)
        return seal.open_sealed(key, Kind.BODY, self.header.vault_id, data)

    def looked(self, actor: Actor) -> None:
        """Count a look into a snapshot; gathered until the vault is closed."""
        with self._lock:
            self._looked[actor] += 1

    # ---- the rest

    @property
    def executor(self) -> Executor:
        """Worker threads of this vault, made when first needed."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="loopbackup"
                )
            return self._executor

    @property
    def fetchers(self) -> Executor:
        """Threads that read chunks ahead for those that wait for them; never wait themselves."""
        with self._lock:
            if self._fetchers is None:
                self._fetchers = ThreadPoolExecutor(
                    max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="loopbackup-fetch"
                )
            return self._fetchers

    def close(self) -> None:
        """Record what was gathered, save local state, stop the threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            pools = [pool for pool in (self._executor, self._fetchers) if pool is not None]
            self._executor = self._fetchers = None
        try:
            self._record_gathered()
            self.log.close()
        finally:
            for pool in pools:
                pool.shutdown()

    def _record_gathered(self) -> None:
        if self.read_only or self.log.signer is None:
            return
        drafts = []
        for actor, count in self._looked.items():
            audit = self.audit(actor, Action.READ)
            drafts.append(Draft("read", rec.Looked(count=count), [audit]))
        for (actor, action), count in self._refused.items():
            audit = self.audit(actor, action, reason=self._reasons[actor, action])
            drafts.append(Draft("refused", rec.Refused(count), [audit]))
        for draft in drafts:
            try:
                self.log.commit_draft(draft)
            except LoopbackupError as exc:
                get_logger().warning("reads were not recorded", kind=exc.kind)


def to_datetime(microseconds: int) -> datetime:
    """
    Give the aware UTC instant of a count of microseconds, exactly.

    Raises:
        OverflowError: It lies beyond the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def chunker_params(header: Header) -> ChunkerParams:
    """Give the cut parameters of a vault; InputError when they are out of bounds."""
    return ChunkerParams(
        min_size=header.chunk_min,
        max_size=header.chunk_max,
        jump=header.chunk_jump,
        t_cut=header.chunk_t_cut,
        t_jump=header.chunk_t_jump,
    )
