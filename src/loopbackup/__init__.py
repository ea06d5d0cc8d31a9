"""
Encrypted, deduplicated backups that a host application embeds.

``Vault`` acts, ``Snapshot`` looks, a report is data, a promise that fails
raises. Names are loaded when first used: importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import gdpr as gdpr
    from . import policy as policy
    from . import testing as testing
    from .context import acting_as as acting_as
    from .errors import AlreadyExistsError as AlreadyExistsError
    from .errors import Cancelled as Cancelled
    from .errors import ConflictError as ConflictError
    from .errors import CredentialError as CredentialError
    from .errors import DamagedData as DamagedData
    from .errors import ErasedSubject as ErasedSubject
    from .errors import ErasureIncomplete as ErasureIncomplete
    from .errors import ErasureParked as ErasureParked
    from .errors import FormatError as FormatError
    from .errors import HoldActive as HoldActive
    from .errors import IncompleteBackup as IncompleteBackup
    from .errors import IncompleteRestore as IncompleteRestore
    from .errors import InputError as InputError
    from .errors import InsecureTransport as InsecureTransport
    from .errors import IntegrityError as IntegrityError
    from .errors import LoopbackupError as LoopbackupError
    from .errors import NewerFormat as NewerFormat
    from .errors import NotFoundError as NotFoundError
    from .errors import PolicyError as PolicyError
    from .errors import RollbackDetected as RollbackDetected
    from .errors import StoreError as StoreError
    from .progress import Cancel as Cancel
    from .progress import Progress as Progress
    from .receipts import Receipt as Receipt
    from .terms import Action as Action
    from .terms import Actor as Actor
    from .terms import AllowAll as AllowAll
    from .terms import Decision as Decision
    from .terms import Facts as Facts
    from .terms import Gate as Gate
    from .terms import Hold as Hold
    from .terms import Location as Location
    from .terms import Overlay as Overlay
    from .terms import Problem as Problem
    from .terms import Restriction as Restriction
    from .terms import RetentionPlan as RetentionPlan
    from .terms import SnapshotInfo as SnapshotInfo
    from .terms import StoredGate as StoredGate
    from .terms import Subject as Subject
    from .upkeep import Duty as Duty
    from .upkeep import Maintained as Maintained
    from .upkeep import maintain as maintain
    from .vault.diff import Change as Change
    from .vault.diff import Diff as Diff
    from .vault.entry import Entries as Entries
    from .vault.entry import Entry as Entry
    from .vault.keys.aws_kms import AwsKms as AwsKms
    from .vault.keys.credentials import Credential as Credential
    from .vault.keys.credentials import KeyFile as KeyFile
    from .vault.keys.credentials import Passphrase as Passphrase
    from .vault.keys.credentials import Recipient as Recipient
    from .vault.keys.kms import Kms as Kms
    from .vault.keys.kms import KmsKey as KmsKey
    from .vault.keys.kms import LocalKms as LocalKms
    from .vault.keysview import Keys as Keys
    from .vault.ledgerview import Ledger as Ledger
    from .vault.ledgerview import LedgerEntry as LedgerEntry
    from .vault.snapshot import BackupReport as BackupReport
    from .vault.snapshot import Snapshot as Snapshot
    from .vault.snapshot import Version as Version
    from .vault.source.items import Bytes as Bytes
    from .vault.source.items import Item as Item
    from .vault.source.subjects import subject_from_path as subject_from_path
    from .vault.store.protocol import Remains as Remains
    from .vault.store.protocol import Store as Store
    from .vault.store.protocol import StoredObject as StoredObject
    from .vault.store.protocol import StoreInfo as StoreInfo
    from .vault.store.protocol import check_key as check_key
    from .vault.store.protocol import check_prefix as check_prefix
    from .vault.store.protocol import check_range as check_range
    from .vault.store.transport import Transport as Transport
    from .vault.vault import Vault as Vault
    from .vault.verbs.check import CheckReport as CheckReport
    from .vault.verbs.holdings import Held as Held
    from .vault.verbs.holdings import Holdings as Holdings
    from .vault.verbs.info import Info as Info
    from .vault.verbs.info import Series as Series
    from .vault.verbs.info import SlotInfo as SlotInfo
    from .vault.verbs.locate import Whereabouts as Whereabouts
    from .vault.verbs.prune import Pruned as Pruned
    from .vault.verbs.refold import Cursor as Cursor
    from .vault.verbs.replicas import Replica as Replica
    from .vault.verbs.replicate import Replicated as Replicated
    from .vault.verbs.restore import Restored as Restored
    from .vault.verbs.retention import Applied as Applied

__all__ = [
    "Action",
    "Actor",
    "AllowAll",
    "AlreadyExistsError",
    "Applied",
    "AwsKms",
    "BackupReport",
    "Bytes",
    "Cancel",
    "Cancelled",
    "Change",
    "CheckReport",
    "ConflictError",
    "Credential",
    "CredentialError",
    "Cursor",
    "DamagedData",
    "Decision",
    "Diff",
    "Duty",
    "Entries",
    "Entry",
    "ErasedSubject",
    "ErasureIncomplete",
    "ErasureParked",
    "Facts",
    "FormatError",
    "Gate",
    "Held",
    "Hold",
    "HoldActive",
    "Holdings",
    "IncompleteBackup",
    "IncompleteRestore",
    "Info",
    "InputError",
    "InsecureTransport",
    "IntegrityError",
    "Item",
    "KeyFile",
    "Keys",
    "Kms",
    "KmsKey",
    "Ledger",
    "LedgerEntry",
    "LocalKms",
    "Location",
    "LoopbackupError",
    "Maintained",
    "NewerFormat",
    "NotFoundError",
    "Overlay",
    "Passphrase",
    "PolicyError",
    "Problem",
    "Progress",
    "Pruned",
    "Receipt",
    "Recipient",
    "Remains",
    "Replica",
    "Replicated",
    "Restored",
    "Restriction",
    "RetentionPlan",
    "RollbackDetected",
    "Series",
    "SlotInfo",
    "Snapshot",
    "SnapshotInfo",
    "Store",
    "StoreError",
    "StoreInfo",
    "StoredGate",
    "StoredObject",
    "Subject",
    "Transport",
    "Vault",
    "Version",
    "Whereabouts",
    "acting_as",
    "check_key",
    "check_prefix",
    "check_range",
    "gdpr",
    "maintain",
    "policy",
    "subject_from_path",
    "testing",
]

_HOMES = {
    "context": ("acting_as",),
    "errors": (
        "AlreadyExistsError",
        "Cancelled",
        "ConflictError",
        "CredentialError",
        "DamagedData",
        "ErasedSubject",
        "ErasureIncomplete",
        "ErasureParked",
        "FormatError",
        "HoldActive",
        "IncompleteBackup",
        "IncompleteRestore",
        "InputError",
        "InsecureTransport",
        "IntegrityError",
        "LoopbackupError",
        "NewerFormat",
        "NotFoundError",
        "PolicyError",
        "RollbackDetected",
        "StoreError",
    ),
    "progress": ("Cancel", "Progress"),
    "receipts": ("Receipt",),
    "terms": (
        "Action",
        "Actor",
        "AllowAll",
        "Decision",
        "Facts",
        "Gate",
        "Hold",
        "Location",
        "Overlay",
        "Problem",
        "Restriction",
        "RetentionPlan",
        "SnapshotInfo",
        "StoredGate",
        "Subject",
    ),
    "upkeep": ("Duty", "Maintained", "maintain"),
    "vault.diff": ("Change", "Diff"),
    "vault.entry": ("Entries", "Entry"),
    "vault.keys.aws_kms": ("AwsKms",),
    "vault.keys.credentials": (
        "Credential",
        "KeyFile",
        "Passphrase",
        "Recipient",
    ),
    "vault.keys.kms": ("Kms", "KmsKey", "LocalKms"),
    "vault.keysview": ("Keys",),
    "vault.ledgerview": (
        "Ledger",
        "LedgerEntry",
    ),
    "vault.snapshot": (
        "BackupReport",
        "Snapshot",
        "Version",
    ),
    "vault.source.items": (
        "Bytes",
        "Item",
    ),
    "vault.source.subjects": ("subject_from_path",),
    "vault.store.protocol": (
        "Remains",
        "Store",
        "StoreInfo",
        "StoredObject",
        "check_key",
        "check_prefix",
        "check_range",
    ),
    "vault.store.transport": ("Transport",),
    "vault.vault": ("Vault",),
    "vault.verbs.check": ("CheckReport",),
    "vault.verbs.holdings": ("Held", "Holdings"),
    "vault.verbs.info": ("Info", "Series", "SlotInfo"),
    "vault.verbs.locate": ("Whereabouts",),
    "vault.verbs.prune": ("Pruned",),
    "vault.verbs.refold": ("Cursor",),
    "vault.verbs.replicas": ("Replica",),
    "vault.verbs.replicate": ("Replicated",),
    "vault.verbs.restore": ("Restored",),
    "vault.verbs.retention": ("Applied",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in ("gdpr", "policy", "testing"):
            return importlib.import_module(f"{__name__}.{name}")
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
