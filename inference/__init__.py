"""The inference server: answers the object and goal queries of all producers (room laid, not yet built)."""
