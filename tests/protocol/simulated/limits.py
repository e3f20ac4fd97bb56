"""Times of the simulated world [s]."""

HEARTBEAT_S = 1.0
LEASE_S = 6.0
SETTLE_S = 400.0
