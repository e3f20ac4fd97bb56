"""A robosuite worker: simulate first, render only what will be stored, publish.

Physics of an episode takes about half a second and its frames many times that, so a failed episode costs next to
nothing. The simulator states are stored too: anyone can render the episode again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from producers.episode import Episode
from producers.job import Job, WorkerStats
from producers.policy_client import PolicyClient, RemotePolicy
from producers.publisher import Publisher, PublisherConfig
from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.learned_policy import LearnedPolicy
from producers.robosuite.options import RobosuiteOptions
from producers.robosuite.policy import ScriptedPickPlacePolicy
from producers.robosuite.rendering import StateRenderer
from producers.robosuite.seeds import episode_seed
from producers.rollout import Rollout, rollout
from producers.supervisor import Channel
from producers.work_loop import WorkLoop
from protocol.errors import ConfigurationError
from protocol.spec import Camera, Column, StreamSpec


def stream_spec(environment: RobosuiteEnvironment, options: RobosuiteOptions) -> StreamSpec:
    """The schema that this environment publishes."""
    return StreamSpec(
        name=options.stream_name,
        rate_hz=float(options.control_freq),
        max_steps=options.horizon,
        columns=tuple(Column(*column) for column in environment.columns),
        cameras=tuple(Camera(name, options.camera_height, options.camera_width) for name in options.camera_names),
    )


def make_policy(
    options: RobosuiteOptions, environment: RobosuiteEnvironment, renderer: StateRenderer, check: Callable[[], None]
) -> ScriptedPickPlacePolicy | LearnedPolicy:
    """The policy that the options name. check: called while a server is waited for. Raises HeadraceError."""
    if options.policy is None:
        return ScriptedPickPlacePolicy(environment.geometry, speed_multiplier=options.speed_multiplier)
    client = PolicyClient(options.policy, check)
    needed = (client.info.rate_hz, client.info.cameras)
    size = (options.camera_height, options.camera_width)
    found = (float(options.control_freq), dict.fromkeys(client.info.cameras, size))
    if needed != found or not client.info.cameras.keys() <= set(options.camera_names):
        raise ConfigurationError(
            f"--policy {options.policy} was trained at {needed[0]:g} Hz with cameras {needed[1]}; "
            f"found {found[0]:g} Hz and {', '.join(options.camera_names)} of {size}; give the flags of its data"
        )
    return LearnedPolicy(RemotePolicy(client, renderer if client.info.cameras else None, options.policy_execute))


class RobosuiteWorker:
    """Everything one worker process holds: simulator, policy, renderer, publisher."""

    def __init__(self, job: Job, channel: Channel) -> None:
        began = time.perf_counter()
        self.options: RobosuiteOptions = job.options
        self.stats = WorkerStats()
        self._job, self._channel = job, channel
        options = self.options
        self._environment = RobosuiteEnvironment(
            RobosuiteConfig(
                task=options.env,
                control_freq_hz=options.control_freq,
                horizon_steps=options.horizon,
                camera_names=options.camera_names,
                camera_height_px=options.camera_height,
                camera_width_px=options.camera_width,
            )
        )
        self._renderer = StateRenderer(
            self._environment.model, options.camera_names, options.camera_height, options.camera_width, options.preset
        )
        self._policy = make_policy(options, self._environment, self._renderer, channel.check)
        self._documents = {"model_xml": self._environment.model_xml().encode()}
        self._spec = stream_spec(self._environment, options)
        self.stats.start_s = time.perf_counter() - began

    def run(self) -> None:
        """Produce until the goal is met. Raises StopRequestedError, HeadraceError."""
        config = PublisherConfig(name=self._job.name, jpeg_quality=self.options.jpeg_quality, key=self.options.key)
        with Publisher(self._job.endpoint, self._spec, self._job.goal, config) as publisher:
            loop = WorkLoop(publisher, self._channel, self.stats)
            loop.run(lambda episode: self._produce(episode, lambda text: loop.say(f"#{episode.index} {text}")))

    def _produce(self, episode: Episode, say: Callable[[str], None]) -> None:
        seed = episode_seed(self.options.seed, episode.index)
        began = time.perf_counter()
        say("simulating")
        made = rollout(self._environment, self._policy, seed, self.options.horizon, self._check_now_and_then)
        self.stats.simulate_s += time.perf_counter() - began
        self.stats.episodes += 1
        self.stats.successes += made.success
        if not made.success and not self.options.keep_failures:
            why = f"the task's success test failed after {made.steps} steps"
            episode.fail(why, {"versions": self._environment.versions()}, seed)
            return
        self._render(episode, made, say)
        episode.finish(made.success, self._attributes(), seed, self._documents)

    def _render(self, episode: Episode, made: Rollout, say: Callable[[str], None]) -> None:
        states = made.columns["states"]
        for step in range(made.steps):
            if step % 10 == 0:
                self._channel.check()
                say(f"rendering {step}/{made.steps}")
            began = time.perf_counter()
            images = self._renderer.render(states[step])
            self.stats.render_s += time.perf_counter() - began
            episode.step({name: rows[step] for name, rows in made.columns.items()}, images)
        self.stats.encode_s += episode.encode_s
        self.stats.steps += made.steps
        self.stats.frames += made.steps * len(self._spec.cameras)
        self.stats.frame_bytes += episode.frame_bytes
        self.stats.raw_bytes += made.steps * sum(camera.raw_bytes for camera in self._spec.cameras)

    def _attributes(self) -> dict[str, object]:
        options = self.options
        return {
            "env_args": self._environment.env_args(),
            "versions": self._environment.versions(),
            "preset": options.preset,
            "jpeg_quality": options.jpeg_quality,
            "policy": {"name": type(self._policy).__name__, **self._policy.parameters},
        }

    def _check_now_and_then(self, step: int) -> None:
        if step % 25 == 0:
            self._channel.check()
