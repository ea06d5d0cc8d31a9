"""Registers: records that are the sum of their events in the ledger."""
