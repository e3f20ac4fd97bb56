"""A collection on a Ray cluster: actors made from the roles of a topology, what became of them, and their end.

Ray launches, places and restarts; data, leases and answers go over ZeroMQ as everywhere. Only `cluster.py`, `actor.py`
and `conductor.py` import Ray, and nothing imports these three before Ray is asked for.
"""
