"""Scenes made from a template, a difficulty and a seed."""
