"""Break-glass commands for the day the host application is gone."""
