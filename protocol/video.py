"""Frames of packed shards, decoded: H.264 packets in, upright RGB out. The only module of readers that needs PyAV."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protocol.errors import CorruptionError, DatasetError
from protocol.packing import coded_order, needed
from protocol.spec import Camera

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from av import VideoFrame

# Groups whose decoded frames are kept: at 480×640 at most 16 frames of 460 kB each.
_GROUPS = 8
# Steps that are so close are read in order: the whole group is decoded, and the next ones are there.
_NEAR = 2
Read = Callable[[int], bytes]


def library() -> ModuleType:
    """PyAV. Raises DatasetError if it is not installed."""
    try:
        import av  # readers of plain shards do without it
    except ImportError as error:
        raise DatasetError(
            f"packed shards are video, which needs PyAV ({error}); install it with pip install 'headrace[pack]'"
        ) from error
    return av


class VideoDecoder:
    """Decodes single steps, and keeps the groups that were decoded last. May be used by several threads at once."""

    def __init__(self) -> None:
        """Raises DatasetError if PyAV is not installed."""
        self._idle: deque[_Machine] = deque()
        self._groups: OrderedDict[Hashable, _Group] = OrderedDict()
        self._lock = threading.Lock()
        library()

    def image(self, key: Hashable, count: int, place: int, read: Read, camera: Camera) -> NDArray[np.uint8]:
        """uint8[H, W, 3], upright RGB: number `place` of a group of `count` steps. Raises CorruptionError.

        key: names the group among all that this decoder sees. read: gives the packet of a place in it.
        """
        with self._lock:
            group = self._groups.setdefault(key, _Group())
            self._groups.move_to_end(key)
            while len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
            in_order = abs(place - group.last) <= _NEAR and bool(group.frames)
            group.last = place
            frame = group.frames.get(place)
        with self._machine() as machine:
            if frame is None:
                packets = coded_order(count) if in_order else needed(place, count)
                frames = machine.decode([read(number) for number in packets], sorted(packets))
                frame = frames[place]
                with self._lock:
                    group.frames.update(frames)
            return machine.rgb(frame, camera)

    @contextmanager
    def _machine(self) -> Iterator[_Machine]:
        """One that no other thread uses; not used again after an error."""
        try:
            machine = self._idle.pop()
        except IndexError:
            machine = _Machine()
        yield machine
        self._idle.append(machine)


class _Group:
    """frames: those that were decoded, by place. last: the place that was asked for last."""

    def __init__(self) -> None:
        self.frames: dict[int, VideoFrame] = {}
        self.last = -1


class _Machine:
    """A decoder and a converter of colours, for one thread at a time."""

    def __init__(self) -> None:
        av = library()
        self._packet, self._error = av.Packet, av.FFmpegError
        self._decoder = av.VideoCodecContext.create("h264", "r")
        self._decoder.thread_count = 1
        self._convert = av.video.reformatter.VideoReformatter().reformat

    def decode(self, packets: Sequence[bytes], places: Sequence[int]) -> dict[int, VideoFrame]:
        """Frames by place. packets: a key frame first; places: of these packets, in the order of display."""
        try:
            frames = [frame for data in packets for frame in self._decoder.decode(self._packet(data))]
            frames += self._decoder.decode(None)
            self._decoder.flush_buffers()
        except self._error as error:
            raise CorruptionError(f"the decoder refuses the video: {error}") from error
        if len(frames) != len(places) or any(frame.is_corrupt for frame in frames):
            raise CorruptionError(f"expected {len(places)} whole frames of video, found {len(frames)}, whole or not")
        return dict(zip(places, frames, strict=True))

    def rgb(self, frame: VideoFrame, camera: Camera) -> NDArray[np.uint8]:
        """As `to_rgb`. Raises CorruptionError if the frame has another size than the camera."""
        coded = coded_size(camera)
        if (frame.height, frame.width) != coded:
            expected = f"{coded[0]}×{coded[1]}"
            raise CorruptionError(f"expected video of {expected} pixels, found {frame.height}×{frame.width}")
        return to_rgb(self._convert, frame, camera)


def to_rgb(convert: Callable[..., VideoFrame], frame: VideoFrame, camera: Camera) -> NDArray[np.uint8]:
    """uint8[H, W, 3]. The colours are those of JPEG, BT.601 in full range, whatever the stream says about itself.

    convert: `VideoReformatter.reformat`, which is faster again and again.
    """
    shown = convert(frame, format="rgb24", src_colorspace="ITU601", src_color_range="JPEG", threads=1)
    image: NDArray[np.uint8] = shown.to_ndarray()  # type: ignore[assignment]  # rgb24 has no other
    return image[: camera.height, : camera.width]


def coded_size(camera: Camera) -> tuple[int, int]:
    """(height, width) of the video of a camera [pixels]: even, for there is one colour to 2×2 pixels."""
    return camera.height + camera.height % 2, camera.width + camera.width % 2
