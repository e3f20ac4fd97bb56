"""Recorded datasets of other tools, published episode by episode: the way in for data that exists already."""
