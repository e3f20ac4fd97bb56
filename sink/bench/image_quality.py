"""`python -m sink.bench.image_quality SETTINGS`: how far frames are from the JPEGs that they were made of.

Settings: `data`, the dataset with JPEG; and either `packed`, the packed copy, or `videos`, files by camera that have
the first `steps` frames of each episode, one after the other. PSNR of every frame over all colours, SSIM of every tenth
over its luma, as in Wang et al. (2004) with a uniform window of 7×7 pixels. One JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from protocol.dataset_view import DatasetView
from protocol.shard_view import EpisodeView
from sink.pack.encoder import Image, psnr_db

_WINDOW, _SSIM_EVERY = 7, 10
# Of Wang et al.: (K L)².
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def ssim(image: Image, original: Image) -> float:
    """Mean structural similarity of the luma, at most 1."""
    x, y = ((each @ _LUMA).astype(np.float64) for each in (image, original))
    mean_x, mean_y = _mean(x), _mean(y)
    var_x, var_y = _mean(x * x) - mean_x**2, _mean(y * y) - mean_y**2
    covariance = _mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = uniform_filter(values, _WINDOW)
    return found


def pairs(settings: dict[str, Any]) -> Iterator[tuple[Image, Image]]:
    """(image, original) of every frame."""
    with DatasetView(settings["data"]) as view:
        episodes = [episode for episode in view.new_episodes() if episode.steps]
        if "packed" in settings:
            with DatasetView(settings["packed"]) as packed:
                made = {episode.index: episode for episode in packed.new_episodes()}
                for episode in episodes:
                    for name in episode.shard.cameras:
                        for step in range(episode.steps if episode.index in made else 0):
                            yield made[episode.index].image(name, step), episode.image(name, step)
            return
        for name, paths in settings["videos"].items():
            originals = _originals(episodes, name, settings["steps"])
            for path in paths:
                with av.open(path) as container:
                    for frame in container.decode(video=0):
                        yield frame.to_ndarray(format="rgb24"), next(originals)


def _originals(episodes: list[EpisodeView], camera: str, steps: int) -> Iterator[Image]:
    return (episode.image(camera, step) for episode in episodes for step in range(steps))


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """psnr_mean, psnr_least [dB], ssim_mean, ssim_least, frames."""
    psnr: list[float] = []
    similar: list[float] = []
    for image, original in pairs(settings):
        if len(psnr) % _SSIM_EVERY == 0:
            similar.append(ssim(image, original))
        psnr.append(psnr_db(image, original))
    found = {"psnr_mean": fmean(psnr), "psnr_least": min(psnr)}
    return {**found, "ssim_mean": fmean(similar), "ssim_least": min(similar), "frames": float(len(psnr))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.argv[1]))) + "\n")
