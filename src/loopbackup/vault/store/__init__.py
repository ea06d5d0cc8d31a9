"""Where objects lie: the protocol, its drivers, and the seam the vault uses."""
