"""The frames of one camera of one episode as H.264, in groups of which any step is decoded from three packets at most.

Each group is decoded again as soon as it is there, in the way in which readers do it, and compared with the frames that
went in. If one of them comes out worse than asked for, all of it is encoded again with a finer quantiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import log10

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from protocol.errors import DatasetError
from protocol.jpeg import decode
from protocol.packing import Packing, coded_order
from protocol.spec import Camera
from protocol.video import VideoDecoder, coded_size, to_rgb

Image = NDArray[np.uint8]
# What two equal images are said to have [dB].
MAX_PSNR_DB = 100.0
# The next quantiser to try is so much finer, about 1 dB; 0 would be lossless.
_FINER, _FINEST = 2, 1
# One colour to 2×2 pixels, as in most JPEGs; it may not take the last so many dB, or each pixel gets its own.
_COARSE, _FULL, _ROOM_DB = "yuv420p", "yuv444p", 3.0
_PRESET = "fast"
# What libx264 is told, whatever the stream's rate is: its crf means another quality at another rate.
_STEP_S = Fraction(1, 50)


@dataclass(frozen=True)
class Quality:
    """crf: libx264's quantiser, 1 to 51. least_db: PSNR that every frame must have against its JPEG [dB].

    gop: steps of a group.
    """

    crf: int = 17
    least_db: float = 38.0
    gop: int = 16

    @property
    def packing(self) -> Packing:
        """As the shard says it."""
        return Packing(
            "h264", self.gop, f"libx264 {_PRESET}, crf {self.crf}, every frame at least {self.least_db:g} dB"
        )


@dataclass
class Video:
    """packets: one a step, by step. psnr_db: of each frame against its JPEG, decoded, at most 100."""

    packets: list[bytes] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)


def psnr_db(image: Image, original: Image) -> float:
    """Peak signal to noise ratio over all pixels and colours [dB], at most 100."""
    difference = np.subtract(image, original, dtype=np.float32).reshape(-1)
    error = float(np.dot(difference, difference)) / difference.size
    return MAX_PSNR_DB if error == 0 else min(10 * log10(255**2 / error), MAX_PSNR_DB)


def encode(jpegs: Callable[[], Iterator[bytes]], steps: int, camera: Camera, quality: Quality) -> Video:
    """Encode `steps` frames; jpegs: gives them from the first one on. Raises DatasetError if none is good enough."""
    crf, pixels = quality.crf, _COARSE
    while True:
        attempt = _Attempt(camera, steps, quality, crf, pixels)
        if attempt.run(jpegs()):
            return attempt.video
        if pixels == _COARSE and attempt.ceiling_db < quality.least_db + _ROOM_DB:
            pixels = _FULL
        elif crf > _FINEST:
            crf = max(crf - _FINER, _FINEST)
        else:
            raise DatasetError(
                f"camera {camera.name!r}: even the finest quantiser leaves frames below {quality.least_db:g} dB; "
                "pack with a lower --min-psnr"
            )


class _Attempt:
    """One quantiser. ceiling_db: what the frame that was not good enough could have had with the finest."""

    def __init__(self, camera: Camera, steps: int, quality: Quality, crf: int, pixels: str) -> None:
        self.video, self.ceiling_db = Video(), MAX_PSNR_DB
        self._camera, self._steps, self._quality, self._pixels = camera, steps, quality, pixels
        self._encoder = _encoder(camera, crf, quality.gop, pixels)
        self._convert = av.video.reformatter.VideoReformatter().reformat
        self._decoder = VideoDecoder()
        self._originals: dict[int, Image] = {}
        self._packets: dict[int, bytes] = {}  # of groups that are not whole yet, in the order in which they came

    def run(self, jpegs: Iterator[bytes]) -> bool:
        """False at the first frame that is worse than asked for."""
        for step, jpeg in enumerate(jpegs):
            image = self._originals[step] = decode(jpeg)
            if not self._take(self._encoder.encode(self._frame(image, step))):
                return False
        if not self._take(self._encoder.encode(None)):
            return False
        if len(self.video.packets) != self._steps or self._packets:
            raise self._unexpected(f"{self._steps} packets for as many frames", len(self.video.packets))
        return True

    def _frame(self, image: Image, step: int) -> av.VideoFrame:
        height, width = coded_size(self._camera)
        beyond = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
        whole = np.ascontiguousarray(np.pad(image, beyond, mode="edge")) if any(map(sum, beyond)) else image
        # AREA: a colour is the mean of its 2×2 pixels, as in JPEG.
        frame = self._convert(
            av.VideoFrame.from_ndarray(whole, format="rgb24"),
            format=self._pixels,
            interpolation=Interpolation.AREA,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        frame.pts, frame.time_base = step, _STEP_S
        return frame

    def _take(self, packets: Sequence[av.Packet[av.VideoStream]]) -> bool:
        for packet in packets:
            step = packet.pts
            if step is None or packet.is_keyframe != (step % self._quality.gop == 0):
                raise self._unexpected(f"a key frame every {self._quality.gop} steps only", step)
            self._packets[step] = bytes(packet)
            first, count = self._quality.packing.group(len(self.video.packets), self._steps)
            if len(self._packets) == count and not self._finish_group(first, count):
                return False
        return True

    def _finish_group(self, first: int, count: int) -> bool:
        """Decode it as readers do, and compare."""
        order = [first + place for place in coded_order(count)]
        if list(self._packets) != order:
            raise self._unexpected(f"packets of the steps {order}", list(self._packets))
        for place in range(count):
            image = self._decoder.image(first, count, place, lambda n: self._packets[first + n], self._camera)
            original = self._originals.pop(first + place)
            found = psnr_db(image, original)
            if found < self._quality.least_db:
                self.ceiling_db = psnr_db(to_rgb(self._convert, self._frame(original, 0), self._camera), original)
                return False
            self.video.psnr_db.append(found)
        self.video.packets += [self._packets.pop(first + place) for place in range(count)]
        return True

    def _unexpected(self, expected: str, found: object) -> DatasetError:
        what = f"libx264 did not do as it was told: expected {expected}, found {found}"
        return DatasetError(f"camera {self._camera.name!r}: {what}; is this another release of PyAV?")


def _encoder(camera: Camera, crf: int, gop: int, pixels: str) -> av.VideoCodecContext:
    encoder = av.VideoCodecContext.create("libx264", "w")
    encoder.height, encoder.width = coded_size(camera)
    encoder.pix_fmt, encoder.thread_count = pixels, 1
    encoder.time_base, encoder.framerate = _STEP_S, 1 / _STEP_S
    encoder.color_range, encoder.colorspace = ColorRange.JPEG, Colorspace.ITU601
    settings = {
        "keyint": gop, "min-keyint": gop, "scenecut": 0, "open-gop": 0, "repeat-headers": 1, "annexb": 1,
        # All frames between the first and the last of a group refer to these two, and none to them; all are as good.
        "bframes": max(gop - 2, 0), "b-adapt": 0, "b-pyramid": "none", "pbratio": 1, "ref": 1, "weightp": 0,
        "rc-lookahead": gop, "sync-lookahead": 0,
    }  # fmt: skip
    text = ":".join(f"{name}={value}" for name, value in settings.items())
    encoder.options = {"preset": _PRESET, "tune": "fastdecode", "crf": str(crf), "x264-params": text}
    return encoder
