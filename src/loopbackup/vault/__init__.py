"""Keeps encrypted, deduplicated snapshots; knows no rule and no law."""
