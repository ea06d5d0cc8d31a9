"""The only mutable truth: records in one total order, and their fold."""
