"""Which snapshots live and which go: durations, calendars, order, keep rules, limits."""
