"""A planner that loads the models itself: `python -m inference.bench.own_models DIR`; none without DIR.

Answers one query with each model, says `ready`, and holds on to them until its input ends. ZeroMQ is there in any case:
a planner publishes with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import zmq

from inference.warm_up import example_queries

if __name__ == "__main__":
    asked = example_queries(1)[0]
    held: list[object] = [zmq.Context.instance().socket(zmq.DEALER)]
    if len(sys.argv) > 1:
        from inference.published_source import PublishedSource

        source = PublishedSource(Path(sys.argv[1]), "cpu")
        for name in source.names():
            model = source.load(name, source.current(name))
            if model.info.kind == "object":
                model.rank([asked])
            else:
                model.sample([(asked, asked.reachable[0])])
            held.append(model)
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    sys.stdin.read()
