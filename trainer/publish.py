"""Publish the weights of a model, so that a running inference server takes them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save

from protocol.errors import ModelError
from protocol.published import FORMAT, Manifest, PublishedModel, check_name
from trainer.namo.architectures import ARCHITECTURES, Architecture, Network
from trainer.version_files import write_version


def publish(model: Network, name: str, models: Path, trained_on: str = "") -> PublishedModel:
    """Write the weights as a new version of `name` under the directory `models`, and point to it. Raises ModelError.

    trained_on: what a reader of the manifest should know about the data; at most 2000 characters.
    """
    architecture = type(model).__name__
    if architecture not in ARCHITECTURES:
        raise ModelError(f"expected a model among {', '.join(ARCHITECTURES)}, found {architecture}")
    weights = {key: value.detach().to("cpu").contiguous() for key, value in model.state_dict().items()}
    for key, value in weights.items():
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise ModelError(
                f"{name}: expected finite float32 weights, found {value.dtype} or NaN in {key}; not published"
            )
    manifest = Manifest(
        format=FORMAT,
        name=check_name(name),
        kind=ARCHITECTURES[architecture].kind,
        architecture=architecture,
        config=asdict(model.config),
        version="",
        parameters=sum(value.numel() for value in weights.values()),
        bytes=1,
        sha256="0" * 64,
        created="",
        trained_on=trained_on,
    )
    return write_version(models, manifest, save(weights))


def untrained(architecture: Architecture, seed: int) -> Network:
    """A model with fresh weights that follow from the seed; torch's own random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.build(architecture.config())
