"""One search as the record that the original collection script pickled: plain dicts, lists, tuples and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from protocol.errors import DatasetError
from protocol.namo.episodes import scene_of, state_after, state_before
from protocol.namo.scene import Box, Scene, State
from protocol.shard_view import EpisodeView

Record = dict[str, Any]


def environment_of(episode: EpisodeView) -> int:
    """The environment of a search. Raises DatasetError."""
    try:
        return int(episode.attributes()["environment"])
    except KeyError as error:
        raise DatasetError(f"index {episode.index} has no 'environment': no search of `produce namo`") from error


def record(episode: EpisodeView, env_id: str) -> Record:
    """The original's keys, and after them ours. Raises DatasetError."""
    attributes = episode.attributes()
    made: Record = dict(attributes["record"])
    made["episode_id"] = f"{env_id}_episode_{attributes['episode']}"
    made["robot_goal"] = tuple(made["robot_goal"]) if made["robot_goal"] else None
    if made["action_sequence"] is not None:
        made["action_sequence"] = [
            {"object_id": action["object_id"], "target": tuple(action["target"])} for action in made["action_sequence"]
        ]
    made.update(state_observations=None, post_action_state_observations=None, static_object_info=None)
    if attributes.get("scene") is not None:
        scene = scene_of(attributes)
        made["static_object_info"] = static_object_info(scene)
        if made["solution_found"]:
            steps = range(episode.steps)
            made["state_observations"] = [observation(scene, state_before(episode, scene, t)) for t in steps]
            made["post_action_state_observations"] = [observation(scene, state_after(episode, scene, t)) for t in steps]
    ours = ("stop_reason", "failure_code", "failure_name", "seeds", "budgets", "ml", "versions", "scene_sha256")
    return {**made, **{name: attributes.get(name) for name in (*ours, "schema_version")}}


def keep_minimum_length(records: Sequence[Record]) -> list[Record]:
    """The original's rule: unsolved searches, and solved ones with the fewest actions; all if no plan has any."""
    lengths = [len(each["action_sequence"]) for each in records if each["solution_found"] and each["action_sequence"]]
    if not lengths:
        return list(records)
    shortest = min(lengths)
    return [
        each
        for each in records
        if not each["solution_found"] or (each["action_sequence"] and len(each["action_sequence"]) == shortest)
    ]


def observation(scene: Scene, state: State) -> dict[str, list[float]]:
    """SE(2) poses by name, as the original's environment gave them."""
    poses = {f"{box.name}_pose": pose.tolist() for box, pose in zip(scene.movables, state.movables, strict=True)}
    return {"robot_pose": [*state.robot.tolist(), 0.0], **poses}


def static_object_info(scene: Scene) -> dict[str, dict[str, float]]:
    """Half extents of everything, and where the walls are [m]."""
    info = {"robot": dict.fromkeys(("size_x", "size_y", "size_z"), scene.robot_radius)}
    info |= {box.name: _size(box) for box in scene.movables}
    for wall in scene.walls:
        info[wall.name] = {
            **_size(wall),
            "pos_x": wall.x,
            "pos_y": wall.y,
            "pos_z": wall.half_z,
            "quat_w": math.cos(wall.yaw / 2),
            "quat_x": 0.0,
            "quat_y": 0.0,
            "quat_z": math.sin(wall.yaw / 2),
        }
    return info


def _size(box: Box) -> dict[str, float]:
    return {"size_x": box.half_x, "size_y": box.half_y, "size_z": box.half_z}
