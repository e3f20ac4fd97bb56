"""The models of navigation among movable obstacles: what they are made of, and their losses."""
