"""Planners that do nothing but ask: `python -m producers.bench.queries ENDPOINT CLIENTS SECONDS QUERIES`.

QUERIES: a file with encoded queries, as JSON of base64. Each client asks the next of them when it has its answer. Says
`ready` when each has been answered once, begins when a line comes in, and prints a JSON object.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from producers.query_client import NoAnswerError, QueryClient, QueryClientConfig
from protocol.namo.queries import Query, decode_from_client

_DEADLINE_S = 30.0


class Asker:
    """One client in a thread of its own."""

    def __init__(self, endpoint: str, queries: list[Query], first: int) -> None:
        self.counts: Counter[str] = Counter()
        self.batches = 0
        self.warm = threading.Event()
        self.go = threading.Event()
        self.ends = 0.0
        self._endpoint, self._queries, self._next = endpoint, queries, first
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with QueryClient([self._endpoint], QueryClientConfig(deadline_s=_DEADLINE_S)) as client:
            client.ask(self._queries[self._next % len(self._queries)])
            self.warm.set()
            self.go.wait()
            while time.monotonic() < self.ends:
                self._next += 1
                try:
                    answer = client.ask(self._queries[self._next % len(self._queries)])
                except NoAnswerError as error:
                    self.counts[error.code] += 1
                    continue
                if time.monotonic() < self.ends:
                    self.counts["answered"] += 1
                    self.batches += answer.timing.batch


def main(words: list[str]) -> None:
    """Run the clients."""
    endpoint, clients, seconds, path = words
    queries = []
    for text in json.loads(Path(path).read_text()):
        message = decode_from_client(base64.b64decode(text))
        assert isinstance(message, Query)
        queries.append(message)
    askers = [Asker(endpoint, queries, number) for number in range(int(clients))]
    for asker in askers:
        asker.warm.wait()
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    sys.stdin.readline()
    ends = time.monotonic() + float(seconds)
    for asker in askers:
        asker.ends = ends
        asker.go.set()
    for asker in askers:
        asker.thread.join()
    counts = sum((asker.counts for asker in askers), Counter())
    answered = counts["answered"]
    batch = sum(asker.batches for asker in askers) / max(answered, 1)
    sys.stdout.write(json.dumps({"per_s": answered / float(seconds), "batch": batch, "counts": counts}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
