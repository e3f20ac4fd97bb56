"""The frames of one episode in a video, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import ConfigurationError, EpisodeError


class VideoFrames:
    """Decodes from where the episode begins. Frames are asked for in order; another order begins anew."""

    def __init__(self, path: Path, begins_s: float, rate_hz: float) -> None:
        """begins_s: timestamp of the episode's first frame in the video [s]. rate_hz: of the video."""
        self._path, self._begins_s, self._rate_hz = path, begins_s, rate_hz
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._failure: type[Exception] = OSError  # FFmpeg's, once PyAV is there
        self._next = 0

    def frame(self, step: int) -> NDArray[np.uint8]:
        """uint8[H, W, 3], upright RGB. Raises EpisodeError if the video has no frame at that time."""
        if self._container is None or step < self._next:
            self._begin()
        expected = self._begins_s + step / self._rate_hz
        while (frame := self._decode()) is not None:
            if frame.time < expected - 0.5 / self._rate_hz:
                continue
            self._next = step + 1
            if frame.time > expected + 0.5 / self._rate_hz:
                break
            image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
            return image
        raise EpisodeError(f"{self._path}: expected a frame at {expected:.4f} s, found none; the video is cut off")

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _decode(self) -> Any:
        """The next frame of the file; None at its end."""
        try:
            return next(self._frames, None)
        except self._failure as error:
            raise EpisodeError(f"{self._path}: {error}") from error

    def _begin(self) -> None:
        try:
            import av
        except ImportError as error:
            raise ConfigurationError("videos need PyAV: pip install 'headrace[replay]'") from error
        self.close()
        self._failure = av.FFmpegError
        try:
            self._container = av.open(str(self._path))
            if not self._container.streams.video:
                raise EpisodeError(f"{self._path}: expected a video, found none in it")
            stream = self._container.streams.video[0]
            # The key frame before: one earlier is skipped by its time.
            self._container.seek(int(max(0.0, self._begins_s - 0.5 / self._rate_hz) / stream.time_base), stream=stream)
        except av.FFmpegError as error:
            raise EpisodeError(f"{self._path}: {error}") from error
        self._frames = self._container.decode(stream)
        self._next = 0
