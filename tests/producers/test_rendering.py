"""Pictures of states: which way up they are, whether they equal robosuite's own, and what `fast` may change."""

from __future__ import annotations

import copy
import resource
from collections.abc import Iterator
from typing import Any, NamedTuple

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from producers.robosuite import stillness
from producers.robosuite.rendering import PRESETS, StateRenderer
from protocol.errors import ConfigurationError, EpisodeError

CAMERAS = ("agentview", "robot0_eye_in_hand")
HEIGHT, WIDTH = 480, 640

# Seen along -z: x to the right, y up. Each box spans 2 units of a view that is 8 high and 16 wide.
BOXES = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="above" pos="0 0 10" fovy="43.602818972703"/>
    <geom type="box" group="1" size="1 1 .001" pos="-6 0 0" rgba="1 0 0 1"/>
    <geom type="box" group="1" size="1 1 .001" pos="6 0 0" rgba="0 1 0 1"/>
    <geom type="box" group="1" size="1 1 .001" pos="0 3 0" rgba="0 0 1 1"/>
    <geom type="box" group="0" size="1 1 .001" pos="0 -3 0" rgba="1 1 0 1"/>
    <body pos="0 0 0">
      <joint type="slide" axis="1 0 0"/>
      <geom type="box" group="1" size=".5 .5 .001" rgba="1 1 1 1" mass="1"/>
      <camera name="moving" pos="0 0 10" fovy="43.602818972703"/>
    </body>
  </worldbody>
</mujoco>
"""


def boxes() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(BOXES)


def state_of(model: mujoco.MjModel, *positions: float) -> NDArray[np.float64]:
    return np.array([0.0, *positions, *[0.0] * model.nv])


class Rollout(NamedTuple):
    """States of one PickPlaceCan episode and robosuite's own pictures of them, upright."""

    model: mujoco.MjModel
    states: list[NDArray[np.float64]]
    large: list[dict[str, NDArray[np.uint8]]]
    small: list[dict[str, NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def rollout() -> Iterator[Rollout]:
    import robosuite

    environment = robosuite.make(
        "PickPlaceCan",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=list(CAMERAS),
        camera_heights=84,
        camera_widths=84,
        control_freq=50,
        renderer="mujoco",
        seed=7,
    )
    environment.reset()
    watch(environment, False)
    states = []
    action = np.array([0.8, 0.6, -0.9, 0.3, 0.0, 0.5, -1.0])
    for step in range(61):
        if step % 20 == 0:
            states.append(environment.sim.get_state().flatten())
        environment.step(action)
    watch(environment, True)
    small, large = [], []
    for state in states:
        environment.sim.set_state_from_flattened(state)
        environment.sim.forward()
        observed = environment._get_observations(force_update=True)
        small.append({name: observed[f"{name}_image"][::-1] for name in CAMERAS})
        # What the observation would be at this size.
        large.append({name: environment.sim.render(WIDTH, HEIGHT, camera_name=name)[::-1] for name in CAMERAS})
    yield Rollout(copy.copy(environment.sim.model._model), states, large, small)
    environment.close()


def watch(environment: Any, cameras_on: bool) -> None:
    """Switch the camera observations, which would otherwise be rendered in every step."""
    for camera in CAMERAS:
        environment.modify_observable(f"{camera}_image", "enabled", cameras_on)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("place", [0.0, 1.5, -3.0])
def test_pictures_are_upright_rgb(preset: str, place: float) -> None:
    model = boxes()
    with StateRenderer(model, ["above"], 200, 400, preset) as renderer:
        image = renderer.render(state_of(model, place))["above"]
    assert image.shape == (200, 400, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    expected = np.zeros_like(image)
    expected[75:125, 25:75] = (255, 0, 0)
    expected[75:125, 325:375] = (0, 255, 0)
    expected[0:50, 175:225] = (0, 0, 255)
    middle = round(200 + 25 * place)
    expected[87:112, middle - 12 : middle + 13] = 255
    assert (np.abs(image.astype(int) - expected).max(axis=2) > 2).sum() < 4 * 2 * 50 + 4 * 25


def test_a_moving_camera_is_followed() -> None:
    model = boxes()
    with StateRenderer(model, ["moving", "above"], 200, 400) as renderer:
        image = renderer.render(state_of(model, 2.0))["moving"]
    assert image[100, 200].tolist() == [255, 255, 255]
    assert image[25, 150].tolist() == [0, 0, 255]
    assert image[100, 10].tolist() == [255, 0, 0] or image[100, 10].tolist() == [0, 0, 0]


def test_one_state_leaves_no_trace_in_the_next() -> None:
    model = boxes()
    with StateRenderer(model, ["above"], 200, 400) as renderer:
        first = renderer.render(state_of(model, 0.0))["above"].copy()
        renderer.render(state_of(model, 5.0))
        outside = renderer.render(state_of(model, 500.0))["above"]
        again = renderer.render(state_of(model, 0.0))["above"]
    assert np.array_equal(first, again)
    assert outside.max(axis=2)[87:112, 188:213].max() == 0


@pytest.mark.parametrize("size", ["small", "large"])
def test_exact_equals_robosuite(rollout: Rollout, size: str) -> None:
    pictures = rollout.small if size == "small" else rollout.large
    height, width, _ = pictures[0]["agentview"].shape
    with StateRenderer(rollout.model, CAMERAS, height, width, "exact") as renderer:
        for state, own in zip(rollout.states, pictures, strict=True):
            drawn = renderer.render(state)
            for name in CAMERAS:
                assert np.array_equal(drawn[name], own[name]), name


def test_fast_is_close_to_exact(rollout: Rollout) -> None:
    with StateRenderer(rollout.model, CAMERAS, HEIGHT, WIDTH, "fast") as renderer:
        for state, own in zip(rollout.states, rollout.large, strict=True):
            for name, image in renderer.render(state).items():
                difference = np.abs(image.astype(int) - own[name]).max(axis=2)
                assert difference.mean() < 8, name
                assert (difference > 48).mean() < 0.02, name
                assert _thick(difference > 48) < 12, "a part is missing or in the wrong place"


def _thick(wrong: NDArray[np.bool_]) -> int:
    """Pixels whose whole 5×5 neighbourhood is wrong: none along edges, many where something is torn."""
    windows = np.lib.stride_tricks.sliding_window_view(wrong, (5, 5))
    return int(windows.all(axis=(2, 3)).sum())


def test_the_window_around_what_moves_hides_nothing(rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    windowed = StateRenderer(rollout.model, CAMERAS, HEIGHT, WIDTH)
    monkeypatch.setattr(stillness, "is_local", lambda _: False)
    whole = StateRenderer(rollout.model, CAMERAS, HEIGHT, WIDTH)
    with windowed, whole:
        for state in rollout.states:
            first, second = windowed.render(state), whole.render(state)
            for name in CAMERAS:
                difference = np.abs(first[name].astype(int) - second[name]).max(axis=2)
                assert (difference > 8).sum() < 20, name


def test_memory_stays_flat() -> None:
    model = boxes()

    def draw() -> None:
        with StateRenderer(model, ["above"], 200, 400) as renderer:
            for place in range(20):
                renderer.render(state_of(model, float(place)))

    for _ in range(5):
        draw()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(25):
        draw()
    # Each context that is lost keeps several MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 20 * 1024


def test_an_unknown_camera_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no camera 'side'; its cameras are: above, moving"):
        StateRenderer(boxes(), ["side"], 20, 20)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no rendering preset 'pretty'; choose one of: exact, fast"):
        StateRenderer(boxes(), ["above"], 20, 20, "pretty")


def test_a_state_of_another_model_is_refused() -> None:
    with (
        StateRenderer(boxes(), ["above"], 20, 20) as renderer,
        pytest.raises(EpisodeError, match=r"expected a state float64\[3\] \(time, qpos, qvel\), found \(71,\)"),
    ):
        renderer.render(np.zeros(71))
