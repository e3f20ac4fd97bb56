"""What is told about a search beside its steps: the record of the original collection script, and more of our own.

`record` has the original's keys. Three of them would say again what columns and `scene` hold exactly, and are made from
those by `headrace export namo`: state_observations, post_action_state_observations, static_object_info.
"""

from __future__ import annotations

import platform
import socket
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import msgspec

from producers.namo.flags import NamoOptions
from producers.namo.outcome import FailureCode, Plan, SearchResult
from producers.namo.scenes import LoadedScene
from producers.namo.stream import attempt_table
from producers.namo.streams import SearchKey
from protocol.namo.episodes import SCHEMA_VERSION, pack_attempts
from protocol.namo.scene import Scene
from protocol.spec import MAX_ATTRIBUTE_BYTES

ALGORITHM_VERSION = "1"
ALGORITHM_NAMES = {
    "idfs": "Iterative Deepening First Search",
    "tree_idfs": "Tree Iterative Deepening First Search",
    "random_sampling": "Random Sampling",
}
# Of the options: what a search is a function of, and what says how the collection was meant.
_NOT_OPTIONS = ("sink", "key", "inference_key", "workers", "xml_dir", "start_idx", "end_idx", "nice", "verbose")
# Of attributes beside scene and attempts: a record with the longest plan, and the rest.
_OTHER_BYTES = 24 << 10
_PACKAGES = ("mujoco", "numpy", "scipy")


@dataclass(frozen=True)
class Checked:
    """What became of a result. plan: as it is stored, pushes replayed. failure: None if that plan holds.

    arrived: the robot drove to its goal; None if it was not asked to. Times in seconds.
    """

    result: SearchResult
    plan: Plan
    goal_open_before: bool
    failure: FailureCode
    why: str
    arrived: bool | None
    load_s: float
    check_s: float

    @property
    def solved(self) -> bool:
        """There is a plan that works, perhaps of no push at all."""
        return self.result.solved and self.failure is FailureCode.NONE


def search_attributes(options: NamoOptions, key: SearchKey, loaded: LoadedScene, checked: Checked) -> dict[str, Any]:
    """Of a search that ran, solved or not."""
    result = checked.result
    return {
        **_common(options, key),
        "success": checked.solved,
        "record": _record(options, key, loaded, checked),
        "stop_reason": str(result.stop_reason),
        "failure_code": int(checked.failure),
        "failure_name": checked.failure.name.lower(),
        "failure_description": checked.why,
        "plan_primitives": sum(len(step.result.primitives) for step in checked.plan),
        "primitives": result.primitives,
        "goal_open_before": checked.goal_open_before,
        "goal_open_after": checked.goal_open_before or bool(checked.plan and checked.plan[-1].result.goal_open),
        "arrived": checked.arrived,
        "verified": checked.solved,
        "ml": asdict(result.ml),
        "time": {
            "wall_s": result.wall_s,
            "cpu_s": result.cpu_s,
            "load_s": checked.load_s,
            "check_s": checked.check_s,
        },
        "scene": msgspec.to_builtins(loaded.scene),
        "scene_sha256": loaded.scene.digest(),
        "source": loaded.source,
        "source_sha256": loaded.sha256,
        "scene_meta": msgspec.to_builtins(loaded.meta),
        "attempts": pack_attempts(attempt_table(loaded.scene, result.attempts), _room_bytes(loaded.scene)),
    }


def _room_bytes(scene: Scene) -> int:
    return MAX_ATTRIBUTE_BYTES - _OTHER_BYTES - len(msgspec.json.encode(scene))


def failure_attributes(options: NamoOptions, key: SearchKey, code: FailureCode, why: str) -> dict[str, Any]:
    """Of a search that could not run."""
    return {
        **_common(options, key),
        "record": {**_head(options, key, False), "error_message": why, "xml_file": "", "robot_goal": None},
        "stop_reason": None,
        "failure_code": int(code),
        "failure_name": code.name.lower(),
        "failure_description": why,
        "scene": None,
    }


def _common(options: NamoOptions, key: SearchKey) -> dict[str, Any]:
    told = {name: value for name, value in asdict(options).items() if name not in _NOT_OPTIONS}
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": key.environment,
        "episode": key.episode,
        "seeds": asdict(key),
        "options": told,
        "budgets": {
            name: told[name]
            for name in ("max_depth", "max_goals_per_object", "max_terminal_checks", "max_pushes", "search_timeout")
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "host": socket.gethostname(),
    }


def _head(options: NamoOptions, key: SearchKey, ran: bool) -> dict[str, Any]:
    return {
        "episode_id": f"env_{key.environment:06d}_episode_{key.episode}",
        "algorithm": ALGORITHM_NAMES[options.algorithm],
        "algorithm_version": ALGORITHM_VERSION,
        "success": ran,
        "solution_found": False,
        "solution_depth": None,
        "search_time_ms": None,
        "nodes_expanded": None,
        "terminal_checks": None,
        "max_depth_reached": None,
        "action_sequence": None,
        "algorithm_stats": None,
        "error_message": "",
    }


def _record(options: NamoOptions, key: SearchKey, loaded: LoadedScene, checked: Checked) -> dict[str, Any]:
    result = checked.result
    actions = [{"object_id": step.object, "target": [float(value) for value in step.target]} for step in checked.plan]
    return {
        **_head(options, key, True),
        "solution_found": checked.solved,
        "solution_depth": len(checked.plan) if checked.solved else None,
        "search_time_ms": result.wall_s * 1000,
        "nodes_expanded": result.nodes_expanded,
        "terminal_checks": result.terminal_checks,
        "max_depth_reached": result.max_depth_reached,
        "action_sequence": actions if checked.solved and actions else None,
        "algorithm_stats": {"primitives": result.primitives, "attempts": len(result.attempts)},
        "error_message": checked.why if checked.failure in (FailureCode.STATE, FailureCode.ML_INFERENCE) else "",
        "xml_file": loaded.source,
        "robot_goal": (*loaded.scene.goal, 0.0),
    }


def describe(result: SearchResult) -> str:
    """Why there is no plan, for people."""
    return f"{str(result.stop_reason).replace('_', ' ')} after {result.nodes_expanded} pushes"


