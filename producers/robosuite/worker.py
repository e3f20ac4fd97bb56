"""A robosuite worker: simulate first, render only what will be stored, publish.

Physics of an episode takes about half a second and its frames many times that, so a failed episode costs next to
nothing. The simulator states are stored too: anyone can render the episode again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from producers.episode import Episode
from producers.job import Job, Report, WorkerStats
from producers.publisher import Publisher, PublisherConfig
from producers.resident_memory import resident_mb
from producers.robosuite.environment import RobosuiteConfig, RobosuiteEnvironment
from producers.robosuite.options import RobosuiteOptions
from producers.robosuite.policy import ScriptedPickPlacePolicy
from producers.robosuite.rendering import StateRenderer
from producers.robosuite.seeds import episode_seed
from producers.rollout import Rollout, rollout
from producers.supervisor import Channel, StopRequestedError
from protocol.spec import Camera, Column, StreamSpec

_FLUSH_LIMIT_S = 10.0


def stream_spec(environment: RobosuiteEnvironment, options: RobosuiteOptions) -> StreamSpec:
    """The schema that this environment publishes."""
    return StreamSpec(
        name=options.stream_name,
        rate_hz=float(options.control_freq),
        max_steps=options.horizon,
        columns=tuple(Column(*column) for column in environment.columns),
        cameras=tuple(Camera(name, options.camera_height, options.camera_width) for name in options.camera_names),
    )


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
        self._policy = ScriptedPickPlacePolicy(self._environment.geometry, speed_multiplier=options.speed_multiplier)
        self._renderer = StateRenderer(
            self._environment.model, options.camera_names, options.camera_height, options.camera_width, options.preset
        )
        self._documents = {"model_xml": self._environment.model_xml().encode()}
        self._spec = stream_spec(self._environment, options)
        self.stats.start_s = time.perf_counter() - began
        self._start_cpu_s = sum(os.times()[:2])

    def run(self) -> None:
        """Produce until the goal is met. Raises StopRequestedError, HeadraceError."""
        began = time.perf_counter()
        options = self.options
        config = PublisherConfig(name=self._job.name, jpeg_quality=options.jpeg_quality, key=options.key)
        with Publisher(self._job.endpoint, self._spec, self._job.goal, config) as publisher:
            self._state(publisher, "waiting for the sink")
            try:
                for index in publisher.leases(self._channel.check):
                    self.stats.wait_s = publisher.waited_s
                    with publisher.episode(index) as episode:
                        self._produce(episode, self._sayer(publisher, index))
                    self.stats.total_s = time.perf_counter() - began
                    self._report()
            except StopRequestedError:
                # Give the sink a moment for what is whole already.
                deadline = time.monotonic() + _FLUSH_LIMIT_S
                publisher.flush(lambda: _check_deadline(deadline))
                raise
            finally:
                self.stats.final_wait_s = publisher.waited_s - self.stats.wait_s
                self._report()

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

    def _sayer(self, publisher: Publisher, index: int) -> Callable[[str], None]:
        return lambda text: self._state(publisher, f"#{index} {text}")

    def _state(self, publisher: Publisher, text: str) -> None:
        publisher.tell(text)
        self._channel.send(Report("state", text))

    def _report(self) -> None:
        self.stats.rss_mb.append(resident_mb())
        self.stats.cpu_s = sum(os.times()[:2]) - self._start_cpu_s
        self._channel.send(Report("stats", stats=self.stats))


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise StopRequestedError("the sink did not commit in time; the episode goes back to its pool")

