"""The `headrace` command: finds the program that a command names and runs it.

Programs are named here as text and imported when they are asked for, so that `headrace sink` needs no simulator and
`headrace produce` no database.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from protocol.errors import HeadraceError

# command → (module:function, one line of help, extra that brings its packages)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("deploy.up:main", "sink and producers on this machine, one live display", "all"),
    "submit": ("deploy.submit:main", "hand a collection to Slurm, to Ray, or to machines reached with ssh", "sink"),
    "status": ("deploy.status:main", "jobs, progress and throughput of a collection on a cluster", "sink"),
    "cancel": ("deploy.cancel:main", "end a collection on a cluster, cleanly", "sink"),
    "render": ("deploy.render:main", "a collection as files for systemd or Kubernetes", "kubernetes"),
    "host": ("deploy.ssh.host:main", "what `submit --hosts` runs on each machine; not for people", "sink"),
    "sink": ("sink.__main__:main", "the daemon that stores what producers send", "sink"),
    "produce": ("producers.__main__:main", "workers that simulate and publish episodes", "producers"),
    "namo": ("producers.namo.__main__:main", "scenes for Navigation Among Movable Obstacles", "producers"),
    "inspect": ("sink.inspect:main", "list streams, episodes and sizes of a dataset", "sink"),
    "verify": ("sink.verify:main", "check every checksum and the exactly-once rule", "sink"),
    "flag": ("sink.flag:main", "discard or flag episodes with a reason, take it back, list it", "sink"),
    "pack": ("sink.pack.__main__:main", "full shards with video in place of JPEG, several times smaller", "pack"),
    "mirror": ("sink.mirror:main", "a copy of a dataset that grows with it, for another machine", "sink"),
    "export": ("sink.export.__main__:main", "a dataset in another format: ACT, LeRobot, robomimic, video, …", "sink"),
    "top": ("deploy.top:main", "watch running sinks and inference servers in a terminal", "sink"),
    "page": ("sink.page.__main__:main", "watch a collection and look through its episodes in a browser", "page"),
    "sheet": ("deploy.contact_sheet:main", "one picture with key frames of several episodes", "sink"),
    "demo": ("deploy.demo:main", "the main job, end to end, with a reader that follows it live", "all"),
    "train": ("trainer.train:main", "train a policy or a planner's model, also while the data grows", "trainer"),
    "eval": ("deploy.evaluate:main", "how often a trained policy succeeds, on held-out seeds", "all"),
    "models": ("trainer.models:main", "make, list, verify and roll back the weights that are served", "trainer"),
    "infer": ("inference.__main__:main", "the server that answers planners with the published models", "inference"),
    "keys": ("deploy.keys:main", "make, allow and revoke the keys of producers on other machines", "sink"),
    "doctor": ("deploy.doctor:main", "does this machine have what Headrace needs?", "all"),
    "bench": ("deploy.bench.main:main", "measure, and compare with what one would use instead", "all"),
}

OWN_PACKAGES = ("protocol", "serving", "producers", "sink", "inference", "trainer", "deploy")
USAGE_ERROR = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Foreseen errors are one or two lines on stderr, status 1."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0 if words else USAGE_ERROR
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        sys.stderr.write(f"headrace: there is no command {command!r}; expected one of: {', '.join(COMMANDS)}\n")
        return USAGE_ERROR
    place, _, extra = COMMANDS[command]
    module, function = place.split(":")
    try:
        program = getattr(importlib.import_module(module), function)
        return int(program(rest) or 0)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in OWN_PACKAGES:
            raise
        how = f"pip install 'headrace[{extra}]'"
        sys.stderr.write(f"headrace {command}: the package {error.name!r} is missing; install it with {how}\n")
    except HeadraceError as error:
        sys.stderr.write(f"headrace {command}: {error}\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"headrace {command}: interrupted\n")
        return INTERRUPTED
    return 1


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text, _) in COMMANDS.items())
    more = "headrace COMMAND --help tells a command's flags, units and defaults."
    return f"usage: headrace COMMAND [FLAGS]\n\n{rows}\n\n{more}\n"


if __name__ == "__main__":
    sys.exit(main())
