"""Snapshots of entries that no backup of this machine would make."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loopbackup.terms import SubjectKey
from loopbackup.vault.content.streams import StreamWriter, TableWriter
from loopbackup.vault.content.upload import Upload
from loopbackup.vault.format import codec
from loopbackup.vault.format import record as rec
from loopbackup.vault.format.entries import Node
from loopbackup.vault.format.snapshot import Report, SnapshotBody
from loopbackup.vault.ledger.log import Draft
from loopbackup.vault.ledger.state import join_fronts
from loopbackup.vault.vault import Vault
from loopbackup.vault.verbs.domains import ensure_domains

__all__ = ["commit_nodes"]


def commit_nodes(
    vault: Vault,
    nodes: list[Node],
    contents: dict[bytes, bytes],
    subjects: Mapping[bytes, SubjectKey] | None = None,
) -> str:
    """
    Commit a snapshot of nodes, and give its id.

    Args:
        vault: Where to.
        nodes: In tree order; a size of 0 is filled in.
        contents: By path; one chunk each.
        subjects: By path; everything else is about nobody.
    """
    session = vault._session
    subjects = subjects or {}
    upload = Upload(
        session.store,
        session.log,
        session.keyring,
        session.index,
        executor=session.executor,
        pack_size=session.header.pack_size,
        bundle_size=session.header.bundle_size,
    )
    whose = {subjects.get(node.path) for node in nodes}
    domains = ensure_domains(session.store, session.log, session.keyring, whose, upload.new_domains)
    writers = {domain.id: StreamWriter(domain, upload) for domain in domains.values()}
    table = TableWriter(session.keyring.meta, upload)
    for node in nodes:
        domain = domains[subjects.get(node.path)]
        data = contents.get(node.path, b"")
        if data:
            node.chunks, node.size = domain.chunk_id(data), node.size or len(data)
            upload.put(domain, node.chunks, data)
        writers[domain.id].add(node.path, codec.encode(node), node.size)
    for domain_id in sorted(writers):
        table.add(writers[domain_id].finish())
    snapshot = os.urandom(16)
    root, _ = table.finish(snapshot, os.urandom(32))
    uploaded = upload.finish()
    facts = rec.SnapshotCommitted(
        snapshot,
        root,
        session.log.state.size,
        join_fronts(uploaded.segments),
        join_fronts(uploaded.packs),
    )
    body = SnapshotBody(
        name="hostile",
        created_us=0,
        tags={},
        category=None,
        source={},
        report=Report(),
        entries=len(nodes),
        size=0,
    )
    session.log.commit_draft(
        Draft(
            "snapshot",
            facts,
            [session.body("meta", session.keyring.generation_ref, codec.encode(body))],
        )
    )
    return snapshot.hex()
