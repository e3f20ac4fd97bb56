"""Measurements of whole programs, beside what one would use instead."""
