"""What readers are shown: streams with overlays applied, and nothing of whom is restricted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ...errors import PolicyError
from ...terms import SubjectKey, is_covered
from ..content.streams import Chunks, StreamReader
from ..format.entries import FILE, ITEM, Extra, Node, clamp_ns
from ..format.snapshot import TableRow
from ..keys.domains import Domain
from .session import Session
from .standing import Rectified, binding

__all__ = ["RectifiedNode", "ShownStream", "rectify", "refuse_restricted", "restricted_error"]

_SETTLED: Final = ("lost", "changed")
"""Problems with content, which an overlay takes the place of."""


class RectifiedNode(Node):
    """An entry as an overlay shows it; never written anywhere."""

    overlay: str = ""
    """Id of the overlay."""


class ShownStream(StreamReader):
    """A stream whose entries are as overlays show them."""

    def __init__(
        self, domain: Domain, row: TableRow, reader: Chunks, shown: Mapping[bytes, Rectified]
    ) -> None:
        super().__init__(domain, row, reader)
        self._shown = shown

    def nodes(self, number: int) -> list[Node]:
        """Read and decode chunk *number*, and apply what there is to apply."""
        nodes = super().nodes(number)
        if not self._shown:
            return nodes
        return [rectify(node, self._shown.get(node.path)) for node in nodes]


def rectify(node: Node, by: Rectified | None) -> Node:
    """
    Give an entry as an overlay shows it; one without content stays as it is.

    Its time is that of the overlay, for its content is of then: a restore
    that compares times must not take the old content for the new.
    """
    if by is None or node.kind not in (FILE, ITEM):
        return node
    extra = msgspec.structs.replace(node.extra or Extra(), link=0, extents=None, listed=False)
    if extra.problem in _SETTLED:
        extra.problem = None
    fields = {name: getattr(node, name) for name in Node.__struct_fields__}
    fields |= {
        "mtime_ns": clamp_ns(by.mark.at_us * 1000),
        "size": by.body.size,
        "chunks": by.body.chunks,
        "extra": extra,
    }
    return RectifiedNode(**fields, overlay=by.overlay.id)


def restricted_error() -> PolicyError:
    """Give the error for data that may only be stored."""
    return PolicyError(
        "data of that subject are restricted: until the restriction ends or is lifted they may "
        "only be stored (vault.holdings names it)",
        kind="restricted",
    )


def refuse_restricted(session: Session, subject: SubjectKey | None) -> None:
    """
    Refuse to look for what is about a subject while that is restricted.

    Raises:
        PolicyError: Kind "restricted".
    """
    if is_covered(subject, binding(session).subjects):
        raise restricted_error()
