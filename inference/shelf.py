"""The models that are served now, and the thread that exchanges them when new weights are published."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from inference.model import Model, ModelSource
from protocol.errors import ConfigurationError, HeadraceError

log = logging.getLogger("headrace.infer")


@dataclass(frozen=True)
class ShelfConfig:
    """look_s: how often the source is asked for versions. again_s: how soon one that failed is tried again."""

    max_batch: int = 32
    look_s: float = 1.0
    again_s: float = 10.0


@dataclass(frozen=True)
class _Trouble:
    version: str
    why: str
    at: float


class Shelf:
    """`models` is replaced as a whole, so a batch that has taken it sees one version of each model to its end."""

    def __init__(self, source: ModelSource, config: ShelfConfig, on_load: Callable[[str], None]) -> None:
        """on_load: called with `loaded` or `failed` for every try, in the thread that tries."""
        self.models: Mapping[str, Model] = MappingProxyType({})
        self._source, self._config, self._on_load = source, config, on_load
        self._troubles: dict[str, _Trouble] = {}
        self._source_trouble = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    @property
    def warnings(self) -> list[str]:
        """A sentence for each model whose newest version is not served, and why."""
        troubles = [trouble.why for _, trouble in sorted(self._troubles.copy().items())]
        return [self._source_trouble, *troubles] if self._source_trouble else troubles

    def start(self) -> None:
        """Load everything, then watch in a thread. Raises HeadraceError if there is nothing to serve."""
        self.look()
        if not self.models:
            raise ConfigurationError("; ".join(self.warnings) or "there are no models to serve")
        self._thread.start()

    def close(self) -> None:
        """Watch no more; a model that is being loaded is not waited for."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(self._config.look_s + 1)

    def look(self) -> None:
        """Load what is not what its source says. Whatever goes wrong leaves the old version in its place."""
        try:
            names = self._source.names()
        except Exception as error:
            if str(error) != self._source_trouble:
                log.warning("%s", error)
            self._source_trouble = str(error) or repr(error)
            return
        self._source_trouble = ""
        for name in names:
            if not self._closing.is_set():
                self._look_at(name)

    def _look_at(self, name: str) -> None:
        version = ""
        try:
            version = self._source.current(name)
            served = self.models.get(name)
            if served is not None and served.info.version == version:
                self._troubles.pop(name, None)
                return
            trouble = self._troubles.get(name)
            soon = trouble is not None and time.monotonic() - trouble.at < self._config.again_s
            if trouble is not None and trouble.version == version and soon:
                return
            self._exchange(name, version, served)
        except Exception as error:
            self._note(name, version, error)

    def _exchange(self, name: str, version: str, served: Model | None) -> None:
        model = self._source.load(name, version)
        info = model.info
        if (info.name, info.version) != (name, version):
            raise ConfigurationError(f"expected model {name} version {version}, loaded {info.name} {info.version}")
        if served is not None and info.kind != served.info.kind:
            raise ConfigurationError(
                f"model {name} is of kind {served.info.kind!r} and version {version} of kind {info.kind!r}; "
                "publish it under another name"
            )
        model.warm_up(self._config.max_batch)
        self.models = MappingProxyType({**self.models, name: model})
        self._troubles.pop(name, None)
        self._on_load("loaded")
        before = "" if served is None else f", in place of {served.info.version}"
        log.info("serving model %s version %s (%s, %d parameters)%s", name, version, info.kind, info.parameters, before)

    def _note(self, name: str, version: str, error: Exception) -> None:
        """Say it once."""
        served = self.models.get(name)
        goes_on = "it is not served" if served is None else f"version {served.info.version} is served on"
        kind = "" if isinstance(error, HeadraceError) else f"{type(error).__name__}: "
        why = f"model {name}: {goes_on}: {kind}{error}"
        before = self._troubles.get(name)
        if before is None or before.why != why:
            log.warning("%s", why)
            self._on_load("failed")
        self._troubles[name] = _Trouble(version, why, time.monotonic())

    def _run(self) -> None:
        while not self._closing.wait(self._config.look_s):
            self.look()
