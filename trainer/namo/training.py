"""The training loop of both models: read what is new, one round over the examples, evaluate, publish what is better."""

from __future__ import annotations

import copy
import math
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from protocol.errors import ConfigurationError, ModelError
from trainer.namo.architectures import Network
from trainer.namo.examples import AnyExample, ExampleStore
from trainer.namo.run_files import Checkpoint, RunFiles, Weights
from trainer.namo.searches import SearchReader
from trainer.namo.symmetry import SYMMETRIES
from trainer.namo.tasks import Task
from trainer.namo.teller import Teller
from trainer.publish import publish

Example = TypeVar("Example", bound=AnyExample)
_POLL_S, _READ_S = 1.0, 20.0
# A round has so many steps, however few or many examples there are.
_LEAST_STEPS, _MOST_STEPS = 50, 400
# After early stopping --follow trains again when there are so many more examples.
_GROWTH = 1.05
_CLIP = 1.0


@dataclass(frozen=True)
class Plan:
    """How to train. steps, epochs (rounds): at most, None: no bound.

    patience: evaluations without a better one before the end.
    publish_s, publish_searches: with follow, publish after so much time, or so many new searches, if it is better.
    """

    steps: int | None
    epochs: int | None
    batch_size: int
    lr: float
    seed: int
    patience: int
    follow: bool
    publish_s: float
    publish_searches: int | None


@dataclass
class Best:
    """The weights with the smallest validation loss so far."""

    weights: Weights
    loss: float
    step: int
    measures: dict[str, float] = field(default_factory=dict)


class Training(Generic[Example]):
    """One model, one dataset."""

    def __init__(
        self, task: Task[Example], plan: Plan, reader: SearchReader, store: ExampleStore[Example], model: Network,
        files: RunFiles, teller: Teller,
    ) -> None:  # fmt: skip
        self.task, self.plan, self.model, self.files = task, plan, model, files
        self.reader, self.store, self._teller = reader, store, teller
        self.optimizer = torch.optim.AdamW(model.parameters(), plan.lr)
        self.step = self.epoch = 0
        self._training_loss = float("nan")  # mean of the last pass
        self.best: Best | None = None
        self._stale = 0  # evaluations since the best one
        self._published: Best | None = None
        self._published_at, self._published_searches = time.monotonic(), 0
        self._validated = 0  # `validation_changes` of the store when losses were last compared
        self._rest_until = 0

    def resume(self, found: Checkpoint) -> None:
        """Go on from a checkpoint. Raises ConfigurationError if it is of another model."""
        expected = (type(self.model).__name__, asdict(self.model.config))
        if (found.architecture, found.config) != expected:
            raise ConfigurationError(
                f"--resume: the checkpoint is of {found.architecture} {found.config}, expected {expected[0]} "
                f"{expected[1]}; give the --out of a run of the same model"
            )
        self.model.load_state_dict(found.model)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": found.optimizer, "param_groups": groups})
        self.step, self.epoch = found.step, found.epoch
        self.best = Best(found.best, found.best_loss, found.best_step)
        if any(row["event"] == "published" and row["step"] == found.best_step for row in self.files.rows):
            self._published = self.best

    def run(self, name: str, stop: threading.Event, publish_to: Path | None) -> None:
        """Train until it is enough, or `stop` is set. Raises HeadraceError.

        publish_to: directory of published models; None: nothing is published. name: of the model there.
        """
        self._read_new(stop)
        while not stop.is_set() and not self._has_examples():
            self._teller.waiting(self._missing())
            stop.wait(_POLL_S)
            self._read_new(stop)
        while not stop.is_set() and not self._done():
            if self.plan.follow:
                self._read_new(stop)
            if not (self.store.training and self.store.validation):  # they were discarded
                self._teller.waiting(self._missing())
                stop.wait(_POLL_S)
            elif self.store.added < self._rest_until:
                self._teller.waiting("no better for a while; waiting for more searches")
                stop.wait(_POLL_S)
            else:
                self._round(stop)
                self._evaluate()
            if self.plan.follow and self._due():
                self._publish(name, publish_to)
        self._publish(name, publish_to)

    def _read_new(self, stop: threading.Event) -> None:
        """All that is new; with follow only for a while, because a first look at a large dataset takes long."""
        before, ends = self.reader.seen.searches, time.monotonic() + _READ_S
        for search in self.reader.new_searches():
            self.store.add(search.source, search.environment, self.task.read(search))
            self._teller.reading(self.reader.seen.searches)
            if stop.is_set() or (self.plan.follow and time.monotonic() > ends):
                break
        if self.reader.withdrawn:
            self._teller.withdrew(
                len(self.reader.withdrawn), self.store.withdraw(self.reader.withdrawn), self.task.what
            )
            self.reader.withdrawn.clear()
        if self.reader.seen.searches > before:
            self._teller.read(self.reader.seen, len(self.store.training), len(self.store.validation), self.task.what)

    def _has_examples(self) -> bool:
        if self.store.training and self.store.validation:
            return True
        if not self.plan.follow:
            raise ConfigurationError(f"{self.reader.root}: {self._missing()}; collect more, or wait for them: --follow")
        return False

    def _missing(self) -> str:
        seen, parts = self.reader.seen, (len(self.store.training), len(self.store.validation))
        return (
            f"expected {self.task.what} for training and for validation, found {parts[0]} and {parts[1]} in "
            f"{seen.searches} searches, {seen.solved} of them solved with pushes"
        )

    def _done(self) -> bool:
        if self.plan.steps is not None and self.step >= self.plan.steps:
            return True
        if self.plan.follow:
            return False
        return self._stale >= self.plan.patience or (self.plan.epochs is not None and self.epoch >= self.plan.epochs)

    def _round(self, stop: threading.Event) -> None:
        """Once over the training examples; more often if they are few, a part of them if they are many.

        Raises ModelError if the loss is NaN.
        """
        plan, training = self.plan, list(self.store.training)
        rng = np.random.default_rng([plan.seed, self.epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        steps = min(max(math.ceil(len(training) / plan.batch_size), _LEAST_STEPS), _MOST_STEPS)
        passes = math.ceil(steps * plan.batch_size / len(training))
        order = np.concatenate([rng.permutation(len(training)) for _ in range(passes)])
        if plan.steps is not None:
            steps = min(steps, plan.steps - self.step)
        self.model.train()
        losses = []
        for number in range(steps):
            if stop.is_set():
                break
            chosen = [training[place] for place in order[number * plan.batch_size :][: plan.batch_size]]
            losses.append(self._step(chosen, rng.integers(SYMMETRIES, size=len(chosen)), generator))
            self._teller.stepped(self.step, losses[-1])
        self.epoch += 1
        self._training_loss = float(np.mean(losses)) if losses else float("nan")

    def _step(self, examples: list[Example], symmetries: Any, generator: torch.Generator) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model, examples, symmetries, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            kept = (
                f"the best weights so far are in {self.files.folder}" if self.best else "there are no good weights yet"
            )
            raise ModelError(
                f"the loss is {value} at step {self.step + 1}: stopped, nothing is published from here and {kept}; "
                f"try a smaller --lr than {self.plan.lr:g}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self.optimizer.step()
        self.step += 1
        return value

    def _evaluate(self) -> None:
        self.model.eval()
        validation = list(self.store.validation)
        if self.store.validation_changes != self._validated:  # losses are compared on the same examples only
            for old in {id(each): each for each in (self.best, self._published) if each is not None}.values():
                old.loss = self._loss_of(old.weights)
            self._validated = self.store.validation_changes
        loss = self.task.validation_loss(self.model, validation)
        if not math.isfinite(loss):
            raise ModelError(f"the validation loss is {loss} at step {self.step}: stopped; try a smaller --lr")
        measures = self.task.measure(self.model, validation)
        if self.best is None or loss < self.best.loss:
            self.best, self._stale = Best(_copy(self.model), loss, self.step, measures), 0
        else:
            self._stale += 1
            if self.plan.follow and self._stale >= self.plan.patience:
                self._rest()
        self._note(loss, measures)

    def _rest(self) -> None:
        """Go back to the best weights, and go on when there is more to learn from."""
        assert self.best is not None
        self.model.load_state_dict(self.best.weights)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), self.plan.lr)
        self._stale, self._rest_until = 0, math.ceil(self.store.added * _GROWTH)

    def _note(self, loss: float, measures: dict[str, float]) -> None:
        assert self.best is not None
        parts = {"training": len(self.store.training), "validation": len(self.store.validation)}
        losses = {"training_loss": self._training_loss, "validation_loss": loss}
        row = {"step": self.step, "epoch": self.epoch, "searches": self.reader.seen.searches, **parts, **losses}
        self.files.log("evaluated", **row, best_step=self.best.step, **measures)
        self._teller.evaluated(self.step, losses, self.best.step == self.step, measures)
        config = asdict(self.model.config)
        best, optimizer = self.best, self.optimizer.state_dict()["state"]
        weights = (_copy(self.model), optimizer, best.weights, best.loss, best.step)
        self.files.save(Checkpoint(type(self.model).__name__, config, self.step, self.epoch, *weights))

    def _loss_of(self, weights: Weights) -> float:
        other = copy.deepcopy(self.model)
        other.load_state_dict(weights)
        return self.task.validation_loss(other, list(self.store.validation))

    def _due(self) -> bool:
        searches, wanted = self.reader.seen.searches - self._published_searches, self.plan.publish_searches
        waited = time.monotonic() - self._published_at
        return waited >= self.plan.publish_s or (wanted is not None and searches >= wanted)

    def _publish(self, name: str, publish_to: Path | None) -> None:
        """The best weights, unless what is published is as good."""
        self._published_at, self._published_searches = time.monotonic(), self.reader.seen.searches
        old = self._published
        if publish_to is None or self.best is None or (old is not None and self.best.loss >= old.loss):
            return
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.best.weights)
        made = publish(model, name, publish_to, self._trained_on()).manifest
        self._published = self.best
        self.files.log("published", step=self.best.step, version=made.version, validation_loss=self.best.loss)
        self._teller.published(name, made.version, self.best.loss)

    def _trained_on(self) -> str:
        assert self.best is not None
        seen, parts = self.reader.seen, (len(self.store.training), len(self.store.validation))
        streams = ", ".join(self.reader.names())
        told = ", ".join(f"{key} {value:.3f}" for key, value in self.best.measures.items())
        text = (
            f"{seen.searches} searches ({seen.solved} solved with pushes) of {streams}: {parts[0]} {self.task.what} "
            f"for training, {parts[1]} for validation; step {self.best.step}, validation loss "
            f"{self.best.loss:.4f}; {told}"
        )
        return text[:2000]


def _copy(model: Network) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
