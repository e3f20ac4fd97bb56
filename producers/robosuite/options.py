"""The flags of `headrace produce robosuite`. Imports no simulator, so that `--help` is instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protocol.messages import Goal


@dataclass(frozen=True)
class RobosuiteOptions:
    """Simulate a robosuite task with the scripted policy, render what succeeded, and publish it to a sink."""

    sink: str = "tcp://127.0.0.1:5555"
    """Endpoint of the sink, or the path of the file that it writes with --announce."""
    key: Path | None = None
    """Key file that the operator of a sink with keys gave you; by default the one that HEADRACE_KEY names, if set."""
    env: Literal["PickPlaceCan", "PickPlaceMilk", "PickPlaceBread", "PickPlaceCereal", "Lift"] = "PickPlaceCan"
    """Task."""
    workers: int = 2
    """Worker processes, one core each."""
    episodes: int | None = None
    """Collect until this many have succeeded, counting those in the dataset already; 100 unless --end-idx is given."""
    start_idx: int = 0
    """First episode index."""
    end_idx: int | None = None
    """Without --episodes: run every index from --start-idx up to, not including, this one once."""
    seed: int = 0
    """Base seed; the seed of an episode is a function of this and its index."""
    control_freq: int = 50
    """Control steps per simulated second [Hz]; must divide 500."""
    camera_names: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    """Cameras to record."""
    camera_height: int = 480
    """Image height [pixels]."""
    camera_width: int = 640
    """Image width [pixels]."""
    jpeg_quality: int = 90
    """JPEG quality, 1 to 100."""
    preset: Literal["fast", "exact"] = "fast"
    """Rendering: `exact` equals robosuite's own images pixel by pixel, `fast` leaves out reflections and detail."""
    speed_multiplier: float = 2.0
    """Speed of the scripted policy far from its waypoint, against its base speed."""
    policy: str | None = None
    """Endpoint of a policy server that chooses the actions, in place of the scripted policy (see `headrace eval act`).
    An episode then ends with its first success."""
    policy_execute: int | None = None
    """Do so many actions of a predicted chunk before the next is asked for. Without it the policy is asked in every
    step, and the action is the weighted mean of all predictions for this step (temporal ensembling)."""
    horizon: int = 1000
    """Longest episode [steps]."""
    keep_failures: bool = False
    """Store failed episodes too, marked as such; otherwise only the fact that they failed is recorded."""
    stream: str | None = None
    """Stream name; default robosuite/ENV."""
    nice: int = 5
    """Added to the workers' niceness, so that a sink and a trainer on the same machine go first."""
    gl: Literal["egl", "osmesa"] | None = None
    """OpenGL backend; by default the best that works here."""

    @property
    def stream_name(self) -> str:
        """The stream that is published."""
        return self.stream or f"robosuite/{self.env}"

    @property
    def goal(self) -> Goal:
        """What the sink is told to hand out."""
        if self.episodes is None and self.end_idx is None:
            return Goal(self.start_idx, None, 100)
        return Goal(self.start_idx, self.end_idx, self.episodes)
