"""Queries for measurements: `python -m inference.bench.write_queries FILE COUNT OP`; JSON of base64, as on the wire."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from msgspec.structs import replace

from inference.warm_up import example_queries
from protocol.namo.queries import encode

if __name__ == "__main__":
    path, count, op, object_model = sys.argv[1:]
    made = [replace(query, op=op, object_model=object_model, deadline_s=30.0) for query in example_queries(int(count))]
    Path(path).write_text(json.dumps([base64.b64encode(encode(query)).decode() for query in made]))
