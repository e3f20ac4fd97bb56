"""A collection on a Slurm cluster: jobs made from the roles of a topology, what became of them, and their end."""
