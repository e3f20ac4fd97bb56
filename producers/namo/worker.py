"""A NAMO worker: load a scene, search, replay the plan, draw it, publish.

One search is one episode, and everything about it is in that episode: steps for the pushes of the plan, attributes for
the rest, attempts included. So a search is stored whole or not at all, by one commit.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import msgspec

from producers.episode import Episode
from producers.job import Job, Report, WorkerStats
from producers.namo.flags import NamoOptions
from producers.namo.mjcf_model import Physics
from producers.namo.models import Models
from producers.namo.outcome import FailureCode, SearchResult, StopReason
from producers.namo.plan_check import refine, smooth, verify
from producers.namo.record import Checked, describe, failure_attributes, search_attributes
from producers.namo.scenes import LoadedScene
from producers.namo.search import search
from producers.namo.sources import open_source
from producers.namo.stream import row, stream_spec
from producers.namo.streams import SearchKey
from producers.namo.world import World
from producers.namo.world_config import WorldConfig
from producers.publisher import Publisher, PublisherConfig
from producers.supervisor import Channel, StopRequestedError
from producers.work_loop import WorkLoop
from protocol.errors import ConfigurationError, HeadraceError
from protocol.namo.episodes import CAMERA
from protocol.namo.picture import frame

# An episode's attributes have 256 KiB for scene, attempts and the rest.
_MAX_SCENE_BYTES = 96 << 10


class EnvironmentFailedError(HeadraceError):
    """A search could not run; its index is recorded as failed."""


class NamoWorker:
    """Everything one worker process holds: scenes, the world of the last one, the line to the models, the publisher."""

    def __init__(self, job: Job, channel: Channel) -> None:
        began = time.perf_counter()
        self.options: NamoOptions = job.options
        self.stats = WorkerStats()
        self._job, self._channel = job, channel
        self._scenes = open_source(self.options)
        self._search_options = self.options.search
        self._spec = stream_spec(self.options.stream_name, self.options.max_movables)
        self._models = Models(self.options) if self.options.uses_models else None
        self._environment: int | None = None
        self._loaded: tuple[LoadedScene, World] | None = None
        self._load_s = 0.0
        self.stats.start_s = time.perf_counter() - began

    def run(self) -> None:
        """Produce until every index is done. Raises StopRequestedError, HeadraceError."""
        config = PublisherConfig(name=self._job.name, jpeg_quality=self.options.jpeg_quality, key=self.options.key)
        with ExitStack() as stack:
            if self._models is not None:
                stack.callback(self._models.close)
            stack.callback(self._unload)
            publisher = stack.enter_context(Publisher(self._job.endpoint, self._spec, self._job.goal, config))
            loop = WorkLoop(publisher, self._channel, self.stats)
            loop.run(lambda episode: self._produce(episode, publisher, loop))

    def _produce(self, episode: Episode, publisher: Publisher, loop: WorkLoop) -> None:
        environment, number = divmod(episode.index, self.options.episodes_per_env)
        key = SearchKey(self.options.seed, environment, number)
        loop.say(f"#{episode.index} searching environment {environment}")
        self.stats.episodes += 1
        try:
            loaded, world = self._load(environment)
            checked = self._search(key, world, publisher)
        except (StopRequestedError, ConfigurationError):
            raise
        except HeadraceError as error:
            # One environment that cannot be used is a failed index, not the end of the collection.
            code = FailureCode.ENV_LOAD if self._loaded is None else FailureCode.EXECUTION_FAILED
            episode.fail(str(error), failure_attributes(self.options, key, code, str(error)), key.seed)
            self._tell(f"environment {environment}, episode {number}: {error}")
            return
        self._publish(episode, search_attributes(self.options, key, loaded, checked), loaded, world, checked)
        self.stats.successes += checked.solved
        said = f"solved, pushes: {len(checked.plan)}, {checked.result.wall_s:.2f} s"
        self._tell(f"environment {environment}, episode {number}: {said if checked.solved else checked.why}")

    def _load(self, environment: int) -> tuple[LoadedScene, World]:
        """The world of an environment; the last one is kept, for its other episodes."""
        if self._loaded is not None and self._environment == environment:
            return self._loaded
        self._unload()
        began = time.perf_counter()
        loaded = self._scenes.load(environment)
        scene, most = loaded.scene, self.options.max_movables
        if len(scene.movables) > most:
            found = f"{loaded.source} has {len(scene.movables)} movables"
            raise EnvironmentFailedError(f"{found}, the stream has room for {most} (--max-movables)")
        size = len(msgspec.json.encode(scene))
        if size > _MAX_SCENE_BYTES:
            raise EnvironmentFailedError(f"{loaded.source}: the scene takes {size} bytes; at most {_MAX_SCENE_BYTES}")
        config = WorldConfig(teleport=self.options.teleport)
        self._loaded = (loaded, World(scene, Physics(self.options.physics), config, loaded.xml))
        self._environment = environment
        self._load_s = time.perf_counter() - began
        return self._loaded

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded[1].close()
        self._environment, self._loaded, self._load_s = None, None, 0.0

    def _search(self, key: SearchKey, world: World, publisher: Publisher) -> Checked:
        def cancelled() -> bool:
            publisher.touch()  # a long search is no hang
            return not self._go_on()

        began = time.perf_counter()
        result = search(world, self._search_options, key, self._models, cancelled)
        self.stats.simulate_s += time.perf_counter() - began
        if result.stop_reason is StopReason.CANCELLED:
            self._channel.check()
        return self._check(result, world)

    def _check(self, result: SearchResult, world: World) -> Checked:
        began = time.perf_counter()
        plan, failure, why, arrived = result.plan, result.failure_code, "", None
        if not result.solved:
            why = describe(result)
        elif plan:
            plan = smooth(world, plan, self._go_on) if self.options.smooth else plan
            plan = refine(world, plan, self._go_on) if self.options.refine else plan
            holds = verify(world, plan, self._go_on)
            self._channel.check()
            if not holds:
                failure, why = FailureCode.STATE, "the plan did not do the same when it was replayed"
        if result.solved and failure is FailureCode.NONE and self.options.drive_to_goal:
            _, arrived = world.drive_to_goal(plan[-1].result.after if plan else world.initial())
            if not arrived:
                failure, why = FailureCode.ROBOT_COLLISION, "the goal is open, but the robot did not get there"
        opened = world.reach(world.initial()).goal_open
        return Checked(result, plan, opened, failure, why, arrived, self._load_s, time.perf_counter() - began)

    def _publish(
        self, episode: Episode, attributes: dict[str, Any], loaded: LoadedScene, world: World, checked: Checked
    ) -> None:
        """A plan as steps; a search without pushes as a record of its own."""
        seed = self.options.seed
        if not checked.plan:
            why = checked.why or "no push is needed: the goal can be reached from the start"
            episode.fail(why, attributes, seed)
            return
        for step in checked.plan:
            began = time.perf_counter()
            before = step.result.before
            image = frame(loaded.scene, before, world.reach(before))
            self.stats.render_s += time.perf_counter() - began
            episode.step(row(loaded.scene, step, self.options.max_movables), {CAMERA: image})
        episode.finish(checked.solved, attributes, seed)
        self.stats.steps += episode.steps
        self.stats.frames += episode.steps
        self.stats.frame_bytes += episode.frame_bytes
        self.stats.encode_s += episode.encode_s
        self.stats.raw_bytes += episode.steps * sum(camera.raw_bytes for camera in self._spec.cameras)

    def _go_on(self) -> bool:
        return not self._channel.stop.is_set()

    def _tell(self, text: str) -> None:
        if self.options.verbose:
            self._channel.send(Report("said", text))
