"""Registers and duties of data-protection law, kept through the vault."""

__all__: list[str] = []
