"""Producers that exist to measure the sink."""
