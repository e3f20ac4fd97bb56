"""`headrace render`: a collection as files for systemd or Kubernetes, made from its topology file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, subcommand

from deploy.rendered import Rendered, write
from deploy.topology import read_topology
from protocol.errors import ConfigurationError


@dataclass(frozen=True)
class SystemdFlags:
    """Units for systemd, from a topology file.

    * headrace-sink.service, headrace-inference.service: Type=notify, watchdog
    * headrace-train-WHAT.service: one for each of [[trainers]]
    * headrace-producer@.service: a template, with `count` instances
      (headrace-producer-N@.service if there are several [[producers]])
    * headrace.target: groups them
    * sysusers.d, tmpfiles.d: their user, and directories outside of /var/lib

    Relative paths are below /var/lib/headrace; with --user below this directory.
    [systemd] in the topology chooses another prefix, the user and the interpreter.
    """

    topology: Positional[Path]
    """Topology file, see deploy/systemd.example.toml."""
    out: Path
    """Directory for the files; made if it is not there."""
    user: bool = False
    """For `systemctl --user`: no user of its own, and without what only the system's manager can protect."""
    force: bool = False
    """Replace files that are there with other content; otherwise nothing is written then."""


@dataclass(frozen=True)
class KubernetesFlags:
    """Manifests for Kubernetes, from a topology file. They were not run in a cluster.

    * base: StatefulSet with a volume for the sink, Deployment for inference and each
      trainer, Indexed Job for each of [[producers]], Services, network policies
    * overlays/small: one producer of each kind, little disk
    * overlays/gpu: a GPU for inference and for drawing, metrics watched
    * components/monitoring: a PodMonitor for the Prometheus operator

    Keys are Secrets that the manifests name; what makes them is printed.
    """

    topology: Positional[Path]
    """Topology file, see deploy/kubernetes.example.toml."""
    out: Path
    """Directory for the files; made if it is not there."""
    with_keys: bool = False
    """Write the keys of [security] too, as base/secrets.yaml, mode 0600: whoever reads it can write to the dataset."""
    force: bool = False
    """Replace files that are there with other content; otherwise nothing is written then."""


ENGINES = ("systemd", "kubernetes")
Flags = Annotated[SystemdFlags, subcommand("systemd")] | Annotated[KubernetesFlags, subcommand("kubernetes")]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, and say what to do with them. Raises HeadraceError."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in ENGINES:
        raise ConfigurationError(
            f"expected an engine, {' or '.join(ENGINES)}, found {words[0]!r}; "
            "for example: headrace render systemd FILE --out DIRECTORY"
        )
    flags = tyro.cli(Flags, prog="headrace render", args=words, description=__doc__)
    rendered = _rendered(flags)
    written = write(rendered, flags.out, flags.force)
    same = len(rendered.files) - len(written)
    say = [f"{len(written)} files written to {flags.out}" + (f", {same} were there already" if same else "")]
    say += ["next:", f"  cd {shlex.quote(str(flags.out))}", *(f"  {step}" for step in rendered.then)]
    sys.stdout.write("".join(f"{line}\n" for line in say))
    return 0


def _rendered(flags: SystemdFlags | KubernetesFlags) -> Rendered:
    # One engine's module is imported only when it is asked for: the other's packages may be missing.
    topology = read_topology(flags.topology)
    if isinstance(flags, SystemdFlags):
        from deploy.systemd.units import render_units

        return render_units(topology, Path.cwd(), flags.user)
    from deploy.kubernetes.manifests import render_manifests

    return render_manifests(topology, Path.cwd(), flags.with_keys)


if __name__ == "__main__":
    sys.exit(main())
