"""
The words that the vault, the policy engine and the gdpr helpers share.

Values only: no I/O, no clock. ``policy`` imports nothing of the library but
this package and ``errors``; the vault knows a policy only as a :class:`Gate`.
"""

from .gates import (
    AllowAll,
    Blocker,
    Decision,
    Facts,
    Fate,
    Gate,
    Outcome,
    RetentionPlan,
    SnapshotInfo,
    Step,
    StoredGate,
)
from .words import (
    MAX_REASON_CHARS,
    Action,
    Actor,
    Hold,
    Location,
    Overlay,
    Place,
    Problem,
    Restriction,
    Subject,
    SubjectKey,
    check_actor,
    check_reason,
    check_text,
    is_covered,
    show_subject,
    subject_key,
    text_size,
)

__all__ = [
    "MAX_REASON_CHARS",
    "Action",
    "Actor",
    "AllowAll",
    "Blocker",
    "Decision",
    "Facts",
    "Fate",
    "Gate",
    "Hold",
    "Location",
    "Outcome",
    "Overlay",
    "Place",
    "Problem",
    "Restriction",
    "RetentionPlan",
    "SnapshotInfo",
    "Step",
    "StoredGate",
    "Subject",
    "SubjectKey",
    "check_actor",
    "check_reason",
    "check_text",
    "is_covered",
    "show_subject",
    "subject_key",
    "text_size",
]
