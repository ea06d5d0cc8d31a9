"""Stores on the file systems of fsspec that have no driver of their own here."""
