"""Pictures, cores, memory, ports, limits and the clock of this machine."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from deploy.check import Check, judge
from deploy.package_checks import installed_version
from protocol import jpeg

# By name: deploy starts programs and imports none of their insides.
GRAPHICS = "producers.robosuite.graphics"
HEIGHT, WIDTH, ROUNDS = 480, 640, 20
TORCH_LIMIT_S = 120.0
_ASK_TORCH = """
import torch
cuda = torch.cuda.is_available()
print(f"cuda: {torch.cuda.get_device_name(0)}" if cuda else f"cpu: {torch.backends.cpu.get_cpu_capability()}")
"""
PORTS = {5555: ("producers", "--bind"), 9464: ("metrics", "--http")}
MIN_FREE_BYTES = 1 << 30
MIN_DESCRIPTORS, GOOD_DESCRIPTORS = 256, 1024
# The first second of 2024: a clock before that was never set.
_EARLIEST_S = 1_704_067_200
# linux/timex.h
_TIME_ERROR = 5


def graphics_checks() -> Iterator[Check]:
    """Every OpenGL backend, asked for a picture in a process of its own; one has to work where mujoco is installed."""
    if installed_version("mujoco") is None:
        yield Check(
            "OpenGL", "warning", "mujoco is not installed", "to produce here: pip install 'headrace[producers]'"
        )
        return
    graphics = importlib.import_module(GRAPHICS)
    results = [graphics.probe(backend) for backend in graphics.BACKENDS]
    works = any(result.works for result in results)
    for result in results:
        name = f"OpenGL {result.backend}"
        if result.works:
            device = "GPU" if result.on_gpu else "CPU"
            yield Check(name, "ok", f"{device}: {result.renderer}; first picture after {result.seconds:.1f} s")
        else:
            packages = graphics.PACKAGES[result.backend]
            advice = f"on Debian or Ubuntu: apt-get install {packages}"
            yield Check(name, "warning" if works else "missing", result.error, advice)


def torch_check() -> Check:
    """Which device torch would compute on, asked in a process of its own."""
    if installed_version("torch") is None:
        advice = "to serve or train models here: pip install 'headrace[inference,trainer]'"
        return Check("torch device", "warning", "torch is not installed", advice)
    asked = [sys.executable, "-c", _ASK_TORCH]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=TORCH_LIMIT_S)
    except subprocess.TimeoutExpired:
        return Check(
            "torch device", "missing", f"no answer within {TORCH_LIMIT_S:.0f} s", "try: python -c 'import torch'"
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Check("torch device", "missing", last, "install torch anew")
    return Check("torch device", "ok", done.stdout.strip())


def jpeg_check() -> Check:
    """One frame of the default size, encoded and decoded."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = np.random.default_rng(0).integers(0, 32, (HEIGHT, WIDTH))
    image = np.stack([rows * 200 // HEIGHT, columns * 200 // WIDTH, noise], -1).astype(np.uint8)
    data = jpeg.encode(image)
    encode_ms = _milliseconds(lambda: jpeg.encode(image))
    decode_ms = _milliseconds(lambda: jpeg.decode(data))
    found = f"{HEIGHT}×{WIDTH}: encode {encode_ms:.2f} ms, decode {decode_ms:.2f} ms, one core"
    return judge("JPEG", encode_ms < 20, found, "this is slow: is the machine busy?", "warning")


def _milliseconds(action: object) -> float:
    """The best of several rounds."""
    assert callable(action)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def port_checks() -> Iterator[Check]:
    """Could a sink bind its default ports?"""
    for port, (what, flag) in PORTS.items():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                advice = f"is a sink running? Otherwise give `headrace sink` another {flag}"
                yield Check(f"port {port}", "warning", f"{what}: {error.strerror}", advice)
            else:
                yield Check(f"port {port}", "ok", f"{what}: free on 127.0.0.1")


def cores_check() -> Check:
    """The cores that this process may use."""
    cores, total = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    load = os.getloadavg()[0]
    return Check("cores", "ok", f"{cores} of {total}, load {load:.1f}; about one worker a core")


def memory_check() -> Check:
    """What is free, and no more than the control group allows."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit = _control_group_limit()
    if limit is not None:
        total, free = min(total, limit), min(free, limit)
    found = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    advice = "a sink takes 0.3 GB, a worker that renders about 0.6 GB: use fewer --workers"
    return judge("memory", free >= MIN_FREE_BYTES, found, advice, "warning")


def _control_group_limit() -> int | None:
    """Bytes, of the group that a container starts in (cgroup v2); None: no limit."""
    try:
        said = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return None
    return None if said == "max" else int(said)


def descriptors_check() -> Check:
    """A sink needs one file descriptor a producer, a stream and an open shard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_DESCRIPTORS:
        return Check("file descriptors", "missing", str(soft), f"ulimit -n {GOOD_DESCRIPTORS} (hard limit {hard})")
    advice = f"enough for few producers; ulimit -n {GOOD_DESCRIPTORS}"
    return judge("file descriptors", soft >= GOOD_DESCRIPTORS, f"at most {soft}", advice, "warning")


def clock_check() -> Check:
    """Rows carry the time of two machines: of the producer and of the sink. Nothing else depends on it."""
    now = time.time()
    found = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < _EARLIEST_S:
        return Check("clock", "warning", found, "it was never set; times in the dataset will be wrong")
    # struct timex, with `modes` 0: only asks.
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    if state == _TIME_ERROR:
        advice = "no time service keeps it right; times of several machines may not agree"
        return Check("clock", "warning", f"{found}, not synchronised", advice)
    return Check("clock", "ok", found + (", synchronised" if state >= 0 else ""))
