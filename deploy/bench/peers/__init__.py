"""What a user would take instead of the sink, each writing the same frames in a process of its own."""
