"""Where the environments of a collection come from."""

from __future__ import annotations

from producers.namo.flags import NamoOptions
from producers.namo.scenes import GeneratedScenes, SceneSource, open_scenes
from protocol.errors import ConfigurationError
from protocol.messages import Goal


def open_source(options: NamoOptions) -> SceneSource:
    """The scenes that the flags name. Raises SceneError."""
    if options.xml_dir is None:
        return GeneratedScenes(options.template, options.difficulty, options.seed)
    return open_scenes(options.xml_dir)


def collection_goal(options: NamoOptions) -> Goal:
    """Which indices make up the collection. Raises ConfigurationError if there are not so many environments."""
    if options.xml_dir is None:
        return options.goal(None)
    there = len(open_source(options))
    last = options.start_idx if options.end_idx is None else options.end_idx - 1
    if last >= there:
        flag = f"--start-idx {options.start_idx}" if options.end_idx is None else f"--end-idx {options.end_idx}"
        raise ConfigurationError(f"{flag}: {options.xml_dir} has {there} environments, numbered from 0")
    return options.goal(there)
