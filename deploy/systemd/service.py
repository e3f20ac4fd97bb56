"""One service unit: what it runs, how it is watched, what it may use and reach."""

from __future__ import annotations

from collections.abc import Sequence

from deploy.roles import Preparation, Role
from deploy.systemd.frame import Frame
from deploy.systemd.places import inside, places, reaches_homes
from deploy.systemd.quoting import command, quoted, raw
from deploy.systemd.sandbox import Settings, sandbox
from deploy.topology import Topology
from deploy.unattended import ONE_THREAD, STOP_S, memory_mib, resuming, unless_there

_FILES = 65536
_WATCHDOG_S = 60
# Recovery of millions of episodes, or loading and warming of models [s].
_START_S = 900
_WEIGHT = {"sink": 500, "inference": 300, "trainer": 50, "producers": 50}
_TITLES = {"sink": "sink", "inference": "inference server", "trainer": "trainer", "producers": "producer"}
# The exit status of producers and trainers that were asked to stop.
_INTERRUPTED = "130"
# That of a command whose flags are wrong, which are no better the next time.
_USAGE_ERROR = "2"
_RESTART_S = 10
_GROWING_PAUSES = 254  # the first release of systemd that has them
_NETWORK = "network-online.target"
_NICE = 5


def unit_of(role: Role, frame: Frame) -> str:
    """The name of a role's unit; that of producers ends in @, an instance's number follows."""
    prefix = frame.settings.prefix
    if role.kind != "producers":
        return f"{prefix}-{role.name}.service"
    number = "" if len(frame.topology.producers) == 1 else f"-{role.name.removeprefix('producers-')}"
    return f"{prefix}-producer{number}@.service"


def service(role: Role, frame: Frame, after: Sequence[str]) -> str:
    """The text of a unit. after: units that start before it, and stop after it. Raises ConfigurationError."""
    title = raw(f"Headrace {_TITLES[role.kind]} of {frame.topology.name}")
    title += {"producers": f", {role.name} %i", "trainer": f", {role.name}"}.get(role.kind, "")
    unit: Settings = [
        ("Description", title),
        ("PartOf", frame.target),
        *([] if frame.user_manager else [("Wants", _NETWORK), ("After", _NETWORK)]),
        *(("After", name) for name in after),
        ("StartLimitIntervalSec", "600"),
        ("StartLimitBurst", "20"),
    ]
    install: Settings = [("WantedBy", frame.target)]
    if role.kind == "producers":
        install.append(("DefaultInstance", "0"))
    started = [*_program(role, frame), *_life(role, frame), *_resources(role, frame), *places(role, frame)]
    reached = sandbox(role, frame.user_manager, reaches_homes(role, frame))
    return sections(Unit=unit, Service=[*started, *reached], Install=install)


def sections(**named: Settings) -> str:
    """The text of a unit file."""
    parts = ("\n".join([f"[{name}]", *(f"{key}={value}" for key, value in rows)]) for name, rows in named.items())
    return "\n\n".join(parts) + "\n"


def _program(role: Role, frame: Frame) -> Settings:
    words = role.words(frame.addresses)
    if not role.own_program:
        words = [*frame.headrace, *words]
    if role.announces is not None:
        words += ["--announce", frame.addresses[role.announces]]
    if role.kind == "producers" and not role.own_program:
        words.append("--plain")
    if role.resumes is not None:
        words = resuming(role.resumes, words)
    rows: Settings = [("Type", "notify" if role.announces is not None else "exec")]
    rows += _made_first(role, frame)
    rows.append(("ExecStart", command(words)))
    return rows + _environment(role, frame)


def _made_first(role: Role, frame: Frame) -> Settings:
    rows: Settings = []
    if made := inside(role, frame):
        rows.append(("ExecStartPre", command(["/bin/mkdir", "-p", *map(str, made)])))
    if role.prepare is not None:
        rows.append(("ExecStartPre", command(_unless(role.prepare, frame))))
    return rows


def _unless(preparation: Preparation, frame: Frame) -> list[str]:
    return unless_there(preparation.unless, [*frame.headrace, *preparation.words])


def _environment(role: Role, frame: Frame) -> Settings:
    values = dict(frame.settings.environment)
    if role.kind in ("producers", "trainer"):
        values = ONE_THREAD | values
    if role.kind == "producers" and role.resources.gpus:
        values = {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"} | values
    values |= role.environment(frame.addresses)
    rows: Settings = [("Environment", quoted(f"{name}={value}")) for name, value in values.items()]
    if not frame.user_manager:
        rows.append(("Environment", f"XDG_CACHE_HOME=%C/{frame.settings.prefix}"))
    if role.kind == "producers":
        # What differs between instances, e.g. MUJOCO_EGL_DEVICE_ID.
        rows += [("Environment", f"HEADRACE_NAME=%H/{role.name}.%i")]
        rows += [("EnvironmentFile", f"-%E/{frame.settings.prefix}/%p@%i.env")]
    return rows


def _life(role: Role, frame: Frame) -> Settings:
    rows: Settings = [("Restart", "on-failure"), ("RestartSec", str(_RESTART_S))]
    if not role.own_program:
        rows.append(("RestartPreventExitStatus", _USAGE_ERROR))
    if frame.settings.version >= _GROWING_PAUSES:
        rows += [("RestartSteps", "5"), ("RestartMaxDelaySec", "300")]
    if role.announces is not None:
        rows += [("TimeoutStartSec", str(_START_S)), ("WatchdogSec", str(_WATCHDOG_S))]
    if role.kind == "producers":
        # Its workers are stopped by the program itself; one that the kernel killed is started again by it.
        rows += [("KillMode", "mixed"), ("OOMPolicy", "continue")]
    if role.announces is None:
        rows.append(("SuccessExitStatus", _INTERRUPTED))
    return [*rows, ("KillSignal", "SIGTERM"), ("TimeoutStopSec", str(STOP_S[role.kind]))]


def _resources(role: Role, frame: Frame) -> Settings:
    resources = role.resources
    rows: Settings = [("CPUWeight", str(_WEIGHT[role.kind])), ("IOWeight", str(_WEIGHT[role.kind]))]
    if role.kind in ("producers", "trainer"):
        rows += [
            ("CPUQuota", f"{100 * (resources.cpus or 1)}%"),
            ("Nice", str(role.nice if role.kind == "trainer" else _NICE)),
        ]
    if role.kind == "sink":
        rows += [("LimitNOFILE", str(_files(frame.topology)))]
        rows += [] if frame.user_manager else [("OOMScoreAdjust", "-500")]
    memory = memory_mib(role, frame.topology)
    rows += [("MemoryMax", f"{memory}M")] if memory is not None else []
    if role.kind == "producers" and resources.seconds is not None:
        rows.append(("RuntimeMaxSec", str(resources.seconds)))
    return rows


def _files(topology: Topology) -> int:
    """Open files of a sink: its connections, shards, and some more."""
    flags = {name.replace("_", "-"): value for name, value in topology.sink.flags.items()}
    producers, streams = flags.get("max-producers", 0), flags.get("max-streams", 0)
    connections = flags.get("max-connections", 0)
    found = [int(value) for value in (producers, streams, connections) if isinstance(value, int)]
    return max(_FILES, 4 * sum(found))
