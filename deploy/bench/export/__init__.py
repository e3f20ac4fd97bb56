"""Exports against the disk, and against the writers of the libraries that they are for."""
