"""The `headrace` command and everything that starts programs."""
