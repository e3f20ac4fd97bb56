"""Sinks and datasets that exist to be measured."""
