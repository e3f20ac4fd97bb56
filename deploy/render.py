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


@dataclass(frozen=True)
class SystemdFlags:
    """Units for systemd.

    headrace-sink.service and headrace-inference.service (Type=notify, watchdog, restart, hardening),
    headrace-train-WHAT.service, the template headrace-producer@.service (headrace-producer-N@.service if there are
    several [[producers]]), and headrace.target, which groups them. For the system also sysusers.d/headrace.conf, and
    tmpfiles.d/headrace.conf for directories outside of /var/lib. Relative paths of the topology are below
    /var/lib/headrace, with --user below this directory. [systemd] in the topology chooses another prefix than
    `headrace`, the user and the interpreter.
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
    """Manifests for Kubernetes, as a base with overlays for kustomize. They were not run in a cluster.

    base/: namespace and service account, a StatefulSet with a volume claim and a headless Service for the sink, a
    Deployment with a Service for inference, an Indexed Job for each of [[producers]], a Deployment for each trainer,
    network policies, a disruption budget. overlays/small: one producer of each kind, little disk. overlays/gpu: a GPU
    for inference and rendering. components/monitoring: a PodMonitor for the Prometheus operator. Keys are Secrets that
    the manifests name; what makes them is printed.
    """

    topology: Positional[Path]
    """Topology file, see deploy/kubernetes.example.toml."""
    out: Path
    """Directory for the files; made if it is not there."""
    with_keys: bool = False
    """Write the keys of [security] too, as base/secrets.yaml, mode 0600: whoever reads it can write to the dataset."""
    force: bool = False
    """Replace files that are there with other content; otherwise nothing is written then."""


Flags = Annotated[SystemdFlags, subcommand("systemd")] | Annotated[KubernetesFlags, subcommand("kubernetes")]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, and say what to do with them. Raises HeadraceError."""
    flags = tyro.cli(Flags, prog="headrace render", args=argv, description=__doc__)
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
