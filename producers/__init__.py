"""Producers: simulators that publish episodes to a sink."""
