"""Datasets in the formats of others: `formats.py` says what a format is, `export.py` does what they share.

Episodes that are discarded (`headrace flag`) are left out.
"""
