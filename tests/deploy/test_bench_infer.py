"""`headrace bench infer`, small: a real server, real clients, and figures that come from them."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from deploy.bench import main as bench
from deploy.bench.infer.load import LoadError
from deploy.bench.infer.load import main as load
from protocol.errors import ConfigurationError


def run(tmp_path: Path, *words: str, **environment: str) -> tuple[dict[str, dict[str, object]], dict[str, object], str]:
    """Figures by name, details, and what was printed."""
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "deploy.main", "bench", "infer", *words, "--json", str(written)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert written.exists(), done.stderr
    found = json.loads(written.read_text())
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert done.returncode == (0 if all(figure["holds"] is not False for figure in figures.values()) else 1)
    return figures, found["details"], done.stdout


def test_the_loop_and_overload_are_measured(tmp_path: Path) -> None:
    figures, details, _ = run(tmp_path, "--only", "loop", "overload", "--rounds", "1", "--seconds", "0.5")
    assert set(figures) == {
        "infer.vs_model_loop", "infer.queries_per_s", "infer.overload_ok", "infer.overload_answered_per_s"
    }  # fmt: skip
    assert figures["infer.queries_per_s"]["value"] > 1  # type: ignore[operator]
    overload = details["overload"]
    assert isinstance(overload, dict)
    assert sum(overload["counts"].values()) == overload["sent"], "somebody has heard nothing"
    assert set(overload["counts"]) <= {"answered", "busy", "expired"}


def test_a_peer_that_cannot_be_installed_is_left_out_with_the_reason(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    figures, details, said = run(tmp_path, "--only", "mosec", "--environments", str(tmp_path / "peers"), **offline)
    assert not figures
    left_out = details["left_out"]
    assert isinstance(left_out, dict)
    assert "No matching distribution found" in left_out["infer.vs_mosec"]
    assert "infer.vs_mosec is left out: ERROR:" in said


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--only takes loop, mosec"):
        bench.main(["infer", "--only", "speed"])


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body == b"good" else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.mark.parametrize("body", [b"good", b"bad"])
def test_the_http_load_counts_good_answers_only(tmp_path: Path, body: bytes) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            queries = tmp_path / "queries.json"
            queries.write_text(json.dumps([base64.b64encode(body).decode()] * 2))
            address = f"http://127.0.0.1:{server.server_port}/"
            words = {"address": address, "queries": str(queries), "as_json": False, "warm_s": 0.1, "seconds": 0.5}
            if body == b"good":
                assert load(json.dumps(words))["per_s"] > 10
            else:
                with pytest.raises(LoadError, match="500"):
                    load(json.dumps(words))
        finally:
            server.shutdown()
            thread.join()
