"""A replay worker: reads a recorded episode, checks it as any producer's, and publishes it."""

from __future__ import annotations

import time

import numpy as np

from producers.episode import Episode, Image
from producers.job import Job, WorkerStats
from producers.publisher import Publisher, PublisherConfig
from producers.replay.formats import open_recording
from producers.replay.options import DEFAULT_RATE_HZ, ReplayOptions
from producers.replay.recording import RecordedEpisode, Recording, stream_spec
from producers.supervisor import Channel
from producers.work_loop import WorkLoop
from protocol import jpeg
from protocol.errors import EpisodeError, SpecError
from protocol.spec import StreamSpec


def replay_spec(recording: Recording, options: ReplayOptions) -> StreamSpec:
    """The schema under which a recording is published. Raises SpecError."""
    rate_hz = options.rate_hz or recording.layout.rate_hz or DEFAULT_RATE_HZ
    return stream_spec(options.stream_name, recording.layout, rate_hz)


class ReplayWorker:
    """Everything one worker process holds."""

    def __init__(self, job: Job, channel: Channel) -> None:
        """Raises ConfigurationError, SpecError."""
        began = time.perf_counter()
        self.options: ReplayOptions = job.options
        self.stats = WorkerStats()
        self._job, self._channel = job, channel
        self._recording = open_recording(self.options.source)
        self._spec = replay_spec(self._recording, self.options)
        self.stats.start_s = time.perf_counter() - began

    def run(self) -> None:
        """Publish until every recorded episode is stored. Raises StopRequestedError, HeadraceError."""
        config = PublisherConfig(name=self._job.name, jpeg_quality=self.options.jpeg_quality, key=self.options.key)
        with Publisher(self._job.endpoint, self._spec, self._job.goal, config) as publisher:
            loop = WorkLoop(publisher, self._channel, self.stats)

            def produce(episode: Episode) -> None:
                loop.say(f"#{episode.index} replaying")
                self._produce(episode)

            loop.run(produce)

    def _produce(self, episode: Episode) -> None:
        name = self._recording.name(episode.index)
        try:
            with self._recording.episode(episode.index) as recorded:
                self._publish(episode, recorded)
        except (EpisodeError, SpecError, OSError, KeyError) as error:
            why = str(error) if name in str(error) else f"{name}: {error}"
            if not self.options.skip_damaged:
                raise EpisodeError(f"{why}; --skip-damaged records it as failed and goes on") from error
            episode.fail(why)
        self.stats.episodes += 1

    def _publish(self, episode: Episode, recorded: RecordedEpisode) -> None:
        for step in range(recorded.steps):
            if step % 10 == 0:
                self._channel.check()
            images = {camera.name: self._image(recorded.frame(camera.name, step)) for camera in self._spec.cameras}
            episode.step({name: rows[step] for name, rows in recorded.columns.items()}, images)
        origin = {"file": self.options.source.name, "format": self._recording.format, "episode": episode.index}
        attributes = {**recorded.attributes, "replayed": origin}
        episode.finish(recorded.success, attributes, recorded.seed, recorded.documents)
        stats = self.stats
        stats.successes += recorded.success
        stats.encode_s += episode.encode_s
        stats.steps += recorded.steps
        stats.frames += recorded.steps * len(self._spec.cameras)
        stats.frame_bytes += episode.frame_bytes
        stats.raw_bytes += recorded.steps * sum(camera.raw_bytes for camera in self._spec.cameras)

    def _image(self, image: Image) -> Image:
        if not self.options.swap_channels:
            return image
        decoded = jpeg.decode(image) if isinstance(image, bytes) else image
        return np.ascontiguousarray(decoded[..., ::-1])
