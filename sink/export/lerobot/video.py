"""Video as LeRobot keeps it: JPEG frames encoded without a detour over RGB, and files joined without encoding again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from protocol.errors import ConfigurationError, CorruptionError
from protocol.spec import Camera
from sink.export.h264 import h264_options

# SVT-AV1 describes itself on stderr for each file that it begins; only its errors are wanted.
_QUIET = ("SVT_LOG", "1")
_ENCODERS = {"av1": "libsvtav1", "h264": "libx264"}
_PIXELS = "yuv420p"
# The fastest that SVT-AV1 has; LeRobot's default too.
_AV1_PRESET = "12"


@dataclass(frozen=True)
class Encoding:
    """codec: av1 or h264. crf: constant quality, lower is better. keyframe_every: steps; rate: steps a second."""

    codec: Literal["av1", "h264"]
    crf: int
    keyframe_every: int
    rate: int

    def options(self, camera: Camera) -> dict[str, str]:
        """For the encoder; one thread each, because there is a process for each core, and the bytes stay the same."""
        keys = {"g": str(self.keyframe_every)}
        if self.codec == "av1":
            return {**keys, "crf": str(self.crf), "preset": _AV1_PRESET, "svtav1-params": "lp=1"}
        # Without B-frames the packets of a file are in the order of time, and files can be joined.
        return {**keys, **h264_options(self.crf, camera.width), "bf": "0"}


def encode(jpegs: Iterable[bytes], camera: Camera, path: Path, encoding: Encoding) -> None:
    """Write an mp4 whose n-th frame is shown at n / rate seconds. Raises CorruptionError, OSError.

    Luma and chroma are taken as the JPEG has them, narrowed to the range that video has (BT.601, 16 to 235).
    """
    os.environ.setdefault(*_QUIET)
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    with _plain_errors(path), av.open(str(path), "w", format="mp4") as output:
        stream = _begin(output, camera, encoding)
        for number, data in enumerate(jpegs):
            frame = _decode(decoder, data, camera, number)
            frame.pts, frame.time_base = number, Fraction(1, encoding.rate)
            # The decoder marks every picture as one that stands alone; the encoder would obey.
            frame.pict_type = PictureType.NONE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def try_encoder(camera: Camera, encoding: Encoding) -> None:
    """Raise ConfigurationError if this camera's pictures cannot be encoded so."""
    os.environ.setdefault(*_QUIET)
    try:
        context: Any = av.CodecContext.create(_ENCODERS[encoding.codec], "w")
        _set(context, camera, encoding)
        context.open()
    except (av.FFmpegError, ValueError) as error:
        raise ConfigurationError(
            f"camera {camera.name!r}: the encoder of {encoding.codec} refuses {camera.height}×{camera.width} pixels; "
            "most need even sides that are not too small. Choose another --codec, or --images jpeg"
        ) from error


def join(parts: Sequence[Path], steps: Sequence[int], rate: int, path: Path) -> None:
    """One mp4 of several, packet by packet; part k begins at the sum of the steps before, divided by rate."""
    with _plain_errors(path), av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as output:
        stream: Any = None
        begin = 0
        for part, count in zip(parts, steps, strict=True):
            with av.open(str(part)) as source:
                template = source.streams.video[0]
                if stream is None:
                    # opaque: the packets are copied; no encoder is opened, and none has the name of the decoder.
                    stream = output.add_stream_from_template(template, opaque=True)
                    stream.time_base = template.time_base
                assert template.time_base is not None
                offset = Fraction(begin, rate) / template.time_base
                for packet in source.demux(template):
                    if packet.dts is None or packet.pts is None:
                        continue  # the end of the file
                    packet.pts, packet.dts = packet.pts + int(offset), packet.dts + int(offset)
                    packet.stream = stream
                    output.mux(packet)
            begin += count


def describe(path: Path, rate: int) -> dict[str, Any]:
    """What LeRobot's info.json says about the files of a camera."""
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        return {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.is_depth_map": False,
            "video.fps": rate,
            "video.channels": 3,
            "has_audio": False,
        }


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """FFmpeg's errors as those of the system: a worker can send them, and `headrace export` explains them."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, f"{error.strerror}, while {path.name} was written") from error


def _begin(output: Any, camera: Camera, encoding: Encoding) -> Any:
    stream = output.add_stream(_ENCODERS[encoding.codec], rate=encoding.rate, options=encoding.options(camera))
    _set(stream.codec_context, camera, encoding)
    return stream


def _set(context: Any, camera: Camera, encoding: Encoding) -> None:
    context.width, context.height, context.pix_fmt = camera.width, camera.height, _PIXELS
    context.time_base = Fraction(1, encoding.rate)
    context.options = encoding.options(camera)
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU601


def _decode(decoder: Any, data: bytes, camera: Camera, step: int) -> Any:
    try:
        (frame,) = decoder.decode(av.Packet(data))
    except (av.FFmpegError, ValueError) as error:
        where = f"camera {camera.name!r}, step {step}"
        raise CorruptionError(f"{where}: FFmpeg cannot decode this JPEG: {error}") from error
    return frame.reformat(
        format=_PIXELS,
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
