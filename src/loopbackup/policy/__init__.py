"""Rules about who may do what, where data may lie and how long it lives."""

from ..terms import (
    Action,
    Blocker,
    Decision,
    Facts,
    Fate,
    History,
    Past,
    Place,
    RetentionPlan,
    SnapshotInfo,
    Step,
)
from .files import dumps, load, loads
from .looks import PolicyDecision, PolicyPlan
from .places import destinations
from .policy import Policy
from .rules.access import Access
from .rules.base import Deny, Missing, Pass, Rule, Verdict
from .rules.residency import Residency
from .rules.retention import Retention
from .simulate import Simulation
from .tables import Region, Tables
from .tables import shipped as tables

__all__ = [
    "Access",
    "Action",
    "Blocker",
    "Decision",
    "Deny",
    "Facts",
    "Fate",
    "History",
    "Missing",
    "Pass",
    "Past",
    "Place",
    "Policy",
    "PolicyDecision",
    "PolicyPlan",
    "Region",
    "Residency",
    "Retention",
    "RetentionPlan",
    "Rule",
    "Simulation",
    "SnapshotInfo",
    "Step",
    "Tables",
    "Verdict",
    "destinations",
    "dumps",
    "load",
    "loads",
    "tables",
]
