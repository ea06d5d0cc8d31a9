"""Rules about who may do what, where data may lie and how long it lives."""

__all__: list[str] = []
