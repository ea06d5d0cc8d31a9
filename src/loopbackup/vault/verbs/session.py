"""An open vault as the verbs see it: its parts, who may do what, and the audit trail."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import define, evolve, field
from msgspec import Struct

from ...errors import CredentialError, InputError, LoopbackupError, PolicyError
from ...logs import get_logger
from ...terms import MAX_REASON_CHARS, Action, Actor, AllowAll, Decision, Facts, Gate, Place
from ..content.chunker.params import ChunkerParams
from ..content.index import Index
from ..content.reader import ChunkReader
from ..format import codec, seal
from ..format import record as rec
from ..format.header import Header
from ..format.seal import Kind
from ..keys.credentials import Credential
from ..keys.keyring import Keyring
from ..keys.root import KeyState, Unlocked, unlock
from ..ledger.log import Body, Draft, Log
from ..store.protocol import Store
from ..store.seam import StoreSeam
from .gates import Gates

__all__ = ["UNNAMED", "AuditBody", "Session"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = datetime.max.replace(tzinfo=UTC)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
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
    gates: Gates
    read_only: bool
    own_folder: frozenset[tuple[int, int]] = frozenset()
    """Device and inode of the vault's folder, so that it is never its own source or target."""
    credential: Credential | None = None
    """What the vault was opened with: opens it again when the keys are changed."""
    slot: bytes = b""
    """Id of the slot that it has."""
    replicas: Mapping[str, Callable[[], Store]] = field(factory=dict)
    """By URL: how to open the stores of the replicas that were given to ``open``."""
    allow_insecure_loopback: bool = False
    """Whether stores on this very machine may be reached unprotected, those of replicas too."""
    declared: str | None = None
    """Where the store lies, as declared for it."""
    gone_keys: set[str] = field(factory=set)
    """Old key objects of which nothing was left in the store when this process deleted them."""
    opened_marks: object = None
    """What :func:`.standing.standing` keeps, and nobody else looks at."""
    _place: Place | None = None
    _expected: dict[bytes, Unlocked] = field(factory=dict)
    """By name, epochs that this process has made itself."""
    _ended: CredentialError | None = None
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

    @property
    def gate(self) -> Gate:
        """
        What is asked now: the policy that the ledger has, as far as it is folded.

        Raises:
            PolicyError: Nobody can tell what it says.
        """
        return self.gates.current(self)

    def place(self, *, anew: bool = False) -> Place:
        """
        Say where the store lies; the provider is asked once, and *anew* when that is wanted.

        Raises:
            StoreError: The store failed.

        Cost: what :meth:`.Store.describe` costs, at first and *anew*.
        """
        if self._place is None or anew:
            self._place = self._ask_place()
        return self._place

    def _ask_place(self) -> Place:
        found = self.store.describe().location
        known = found is not None and found.region is not None
        return Place(
            "replica" if self.log.is_replica else "vault",
            self.declared,
            found if known else None,
            self.log.now() if known else None,
            self.url,
        )

    def begin(
        self, action: Action, actor: Actor, facts: Facts | Callable[[], Facts] | None = None
    ) -> None:
        """
        Fold what was committed since, look for what was lost, and ask the gate.

        In this order, so that the policy that binds now decides, whatever it was when this
        process last looked.

        Args:
            action: What shall be done.
            actor: Who does it.
            facts: What there is to know of it; or what gives that, called once all is folded,
                where it depends on whether there is a policy.

        Raises:
            PolicyError: The gate refused; gathered for the ledger.
            InputError: The vault is closed.
        """
        self.check_open()
        self.catch_up()
        made = facts() if callable(facts) else facts
        self.ask(action, actor, made or Facts(actor=actor))

    def ask(self, action: Action, actor: Actor, facts: Facts) -> None:
        """Ask the gate; PolicyError when it refuses, gathered for the ledger."""
        self.check_open()
        gate = self.gate
        if type(gate) is not AllowAll:
            facts = self.completed(facts, actor)
        decision = gate.decide(action, facts, at=self.log.now())
        if not decision.allowed:
            self._refuse(action, actor, decision)

    def completed(self, facts: Facts, actor: Actor) -> Facts:
        """Add what the vault knows: where it lies, where its key service is, and who acts is."""
        more = {**whereabouts_of(actor, self.credential), **facts.more}
        return evolve(facts, places=(self.place(), *facts.places), more=more)

    def catch_up(self) -> None:
        """Fold what was committed since, and look again for what was lost."""
        self.log.refresh()
        self.index.look_again()

    def note_refusal(self, actor: Actor, action: Action, why: str) -> None:
        """Count something that was not done; gathered until the vault is closed."""
        with self._lock:
            self._refused[actor, str(action)] += 1
            self._reasons.setdefault((actor, str(action)), why[:MAX_REASON_CHARS])

    def _refuse(self, action: Action, actor: Actor, decision: Decision) -> None:
        self.note_refusal(actor, action, "; ".join(decision.reasons))
        raise PolicyError(f"{action} {decision}", decision=decision, action=str(action))

    def check_open(self) -> None:
        """Raise InputError when the vault is closed or was inherited by a fork."""
        if self._closed:
            raise InputError("this vault is closed; open it again")
        if self._ended is not None:
            raise self._ended
        self.log.check_process()

    # ---- other keys

    @property
    def epoch(self) -> bytes:
        """Name of the epoch whose keys are at hand."""
        return self.keyring.root.epoch

    def expect(self, unlocked: Unlocked) -> None:
        """Remember the keys of an epoch that this process is about to commit."""
        self._expected[unlocked.root.epoch] = unlocked

    def follow(self, state: KeyState) -> None:
        """
        Take up the keys of *state*'s epoch, with the credential that opened the vault.

        Called by the log, whenever it meets another epoch at the head.

        Raises:
            CredentialError: Kind "slot_removed": the credential has no slot any
                more. Or a key service cannot be asked now.
            DamagedData: A key object is missing or altered.
        """
        unlocked = self._expected.pop(state.epoch, None) or self._unlock(state)
        self._expected.clear()
        self.keyring.adopt(unlocked.root)
        # Contents of those who were erased are among what is kept.
        self.reader.drop()
        self.index.drop(state.fenced)
        self.opened_marks = None
        self.slot = unlocked.slot
        if self.log.signer is not None:
            self.log.signer = unlocked.root.signer(self.log.signer.roles)
        get_logger().info("the vault's keys were changed; going on with the new ones")

    def _unlock(self, state: KeyState) -> Unlocked:
        assert self.credential is not None
        header_hash = self.keyring.root.header_hash
        try:
            # Whoever has it open knows which vault it is.
            return unlock(self.store, state, header_hash, self.credential, trusted=True)
        except CredentialError as exc:
            if exc.transient or exc.kind != "credential":
                raise
            raise self._removed() from exc

    def _removed(self) -> CredentialError:
        return CredentialError(
            f"the key that vault {self.header.vault_id.hex()[:8]} was opened with has no slot "
            "any more. What was committed stands; open the vault with another key",
            kind="slot_removed",
        )

    def end(self) -> None:
        """Let no verb begin any more, for this process has removed the slot that it used."""
        self._record_gathered()
        self._ended = self._removed()
        self.log.signer = None

    def own_secrets(self) -> frozenset[tuple[int, int]]:
        """Give device and inode of the files that open this vault, wherever they are linked."""
        found = set()
        for path in getattr(self.credential, "paths", ()):
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
        if actor.approved_by:
            details["approved_by"] = ", ".join(other.id for other in actor.approved_by)
        month = self.log.now().strftime("%Y-%m").encode()
        body = AuditBody(
            actor=actor.id,
            roles=sorted(actor.roles),
            purpose=actor.purpose,
            ip=actor.ip,
            device=actor.device,
            action=action,
            reason=reason,
            policy=self.gates.digest(self),
            details={k: str(v) for k, v in details.items()},
        )
        ref = month + self.keyring.generation_ref
        return self.body("audit", ref, codec.encode(body))

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
            if self._closed:
                raise InputError("this vault is closed; open it again")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="loopbackup"
                )
            return self._executor

    @property
    def fetchers(self) -> Executor:
        """Threads that read chunks ahead for those that wait for them; never wait themselves."""
        with self._lock:
            if self._closed:
                raise InputError("this vault is closed; open it again")
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
            self.index.close()
            self.store.close()

    def _record_gathered(self) -> None:
        if self.read_only or self.log.signer is None:
            return
        drafts = []
        with self._lock:
            looked, self._looked = self._looked, Counter()
            refused, self._refused = self._refused, Counter()
        for actor, count in looked.items():
            audit = self.audit(actor, Action.READ)
            drafts.append(Draft("read", rec.Looked(count=count), [audit]))
        for (actor, action), count in refused.items():
            audit = self.audit(actor, action, reason=self._reasons[actor, action])
            drafts.append(Draft("refused", rec.Refused(count), [audit]))
        for draft in drafts:
            try:
                self.log.commit_draft(draft)
            except LoopbackupError as exc:
                get_logger().warning("reads were not recorded", kind=exc.kind)


def whereabouts_of(actor: Actor | None, credential: object) -> dict[str, str]:
    """Say whence somebody acts, and where the service of a key is, as far as they tell."""
    known = {
        "keys_in": getattr(credential, "place", None),
        "access_from": None if actor is None else actor.country,
    }
    return {name: value for name, value in known.items() if value}


def to_datetime(microseconds: int) -> datetime:
    """
    Give the aware UTC instant of a count of microseconds, exactly.

    Raises:
        OverflowError: It lies beyond the years 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=microseconds)


def to_moment(microseconds: int) -> datetime:
    """Give a time that may be out of all bounds, as the nearest that there is."""
    try:
        return to_datetime(microseconds)
    except OverflowError:
        return _FAR if microseconds > 0 else _LONG_AGO


def chunker_params(header: Header) -> ChunkerParams:
    """Give the cut parameters of a vault; InputError when they are out of bounds."""
    return ChunkerParams(
        min_size=header.chunk_min,
        max_size=header.chunk_max,
        jump=header.chunk_jump,
        t_cut=header.chunk_t_cut,
        t_jump=header.chunk_t_jump,
    )
