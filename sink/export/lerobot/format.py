"""`headrace export lerobot`: a LeRobotDataset v3.0, as `lerobot` 0.4.4 and later read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from protocol.errors import ConfigurationError
from sink.export.act import chosen_cameras
from sink.export.lerobot.features import choose
from sink.export.lerobot.video import Encoding, try_encoder
from sink.export.lerobot.writer import LeRobotWriter
from sink.export.plan import Plan

_QPOS = "observations/qpos"
_WORST_CRF = {"av1": 63, "h264": 51}


@dataclass(frozen=True)
class LeRobot:
    """A LeRobotDataset v3.0: load it with LeRobotDataset("any/name", root=OUT)."""

    follows: ClassVar[bool] = False

    images: Literal["video", "jpeg"] = "video"
    """`video`: encoded again, small; `jpeg`: the frames as they were recorded, bit by bit."""
    codec: Literal["av1", "h264"] = "av1"
    """Of the video; av1 is what LeRobot takes itself, h264 is quicker to read."""
    crf: int = 30
    """Quality of the video: 0 is best, 51 (h264) or 63 (av1) smallest. 30 is LeRobot's."""
    keyframe_every: int = 2
    """Steps; few make random access quick. 2 is LeRobot's."""
    state: tuple[str, ...] | None = None
    """Columns that become `observation.state`, side by side; observations/qpos if there is one."""
    action: str = "action"
    """Column that becomes `action`."""
    columns: tuple[str, ...] = ()
    """Which others to take; all if not given. observations/x becomes observation.x."""
    cameras: tuple[str, ...] = ()
    """Which cameras; all if not given. Camera x becomes observation.images.x."""
    task: str | None = None
    """What was done, in words; the attribute `task` of an episode if it has one, else the stream's name."""
    robot: str | None = None
    """robot_type of info.json."""

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if the stream cannot be written so."""
        spec = plan.spec
        if spec.rate_hz != int(spec.rate_hz):
            raise ConfigurationError(
                f"stream {spec.name!r} has {spec.rate_hz:g} steps a second; LeRobot takes whole numbers only"
            )
        worst = _WORST_CRF[self.codec]
        if not 0 <= self.crf <= worst or self.keyframe_every < 1:
            raise ConfigurationError(
                f"--crf {self.crf}, --keyframe-every {self.keyframe_every}: {self.codec} takes 0 to {worst}, at least 1"
            )
        if plan.splits:
            raise ConfigurationError("a LeRobotDataset has one split; make an export of each, with --split and --only")
        writer = self.begin(plan, Path())
        if writer.encoding is not None:
            for camera in writer.cameras:
                try_encoder(camera, writer.encoding)

    def begin(self, plan: Plan, folder: Path) -> LeRobotWriter:
        """What writes the parts. Raises ConfigurationError if the stream has not what was asked for."""
        spec, cameras = plan.spec, chosen_cameras(plan, self.cameras)
        encoding = Encoding(self.codec, self.crf, self.keyframe_every, int(spec.rate_hz))
        return LeRobotWriter(
            folder=folder,
            spec=spec,
            features=choose(spec, self._state(plan), self.action, self.columns),
            cameras=tuple(camera for camera in spec.cameras if camera.name in cameras),
            encoding=encoding if self.images == "video" else None,
            task=self.task,
            robot=self.robot,
        )

    def _state(self, plan: Plan) -> tuple[str, ...]:
        if self.state is not None:
            return self.state
        return (_QPOS,) if any(column.name == _QPOS for column in plan.spec.columns) else ()
