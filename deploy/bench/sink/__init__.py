"""`headrace bench sink`: how close the sink comes to its disk and its network, and what faults and crowds cost."""
