"""Exports against the writers of the libraries that they are for."""
