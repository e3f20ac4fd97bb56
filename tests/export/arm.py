"""A small real dataset whose frames tell which way is up and which channel is red, and what was stored in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.dataset_view import DatasetView
from protocol.jpeg import decode
from protocol.spec import Camera, Column, StreamSpec
from tests.datasets import Recorded, write_dataset

SPEC = StreamSpec(
    "test/arm",
    rate_hz=50,
    max_steps=200,
    columns=(
        Column("action", "float32", (2,)),
        Column("observations/qpos", "float64", (3,)),
        Column("observations/qvel", "float64", (3,)),
        Column("states", "float64", (4,)),
    ),
    cameras=(Camera("front", 48, 64), Camera("wrist", 48, 64)),
)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
# Lossy compression changes flat areas by a few levels only.
NEAR = 24


def corners(camera: Camera, index: int, step: int) -> NDArray[np.uint8]:
    """Red, green, blue, white quarters clockwise from the upper left; a grey bar tells index and step."""
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    y, x = camera.height // 2, camera.width // 2
    image[:y, :x], image[:y, x:], image[y:, x:], image[y:, :x] = RED, GREEN, BLUE, WHITE
    image[y - 4 : y + 4, : 1 + (7 * index + step) % camera.width] = 128
    return image


def check_corners(image: NDArray[Any]) -> None:
    """Fail unless an array is upright and in RGB order."""
    height, width = image.shape[:2]
    found = [image[y, x] for y in (4, height - 5) for x in (4, width - 5)]
    expected = {"top left": RED, "top right": GREEN, "bottom left": WHITE, "bottom right": BLUE}
    for (place, colour), pixel in zip(expected.items(), found, strict=True):
        assert np.abs(pixel.astype(int) - colour).max() <= NEAR, f"{place}: expected {colour}, found {pixel}"


def make(
    root: Path, episodes: Iterable[Recorded], spec: StreamSpec = SPEC, group: int = 1, actions: float = 1.0
) -> Path:
    """Write the dataset; returns its directory. actions: their scale; unscaled they count from the index on."""
    write_dataset(root, episodes, spec, group=group, draw=corners, scale=actions)
    return root


def stored(root: Path) -> Mapping[int, dict[str, Any]]:
    """What the dataset holds, by index: columns, `outcome`, and decoded frames by camera."""
    with DatasetView(root) as view:
        return {
            episode.index: {
                "outcome": episode.outcome.name.lower(),
                **{column.name: episode.column(column.name) for column in episode.shard.spec.columns if episode.steps},
                **{
                    camera.name: [decode(episode.frame(camera.name, step)) for step in range(episode.steps)]
                    for camera in episode.shard.spec.cameras
                },
            }
            for episode in view.new_episodes()
        }


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
