"""`headrace pack`: full shards with video in place of JPEG. docs/packing.md shows how to use it."""
