"""Chunks by id in a domain, and all that keeps them: packs, index, streams."""
