"""Collections on machines that are reached with ssh."""
