"""The training loop of ACT."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from protocol.errors import ModelError
from trainer.act.model import Losses
from trainer.act.run import Run

# Of the average of the weights: it forgets those of the start faster than --ema says.
_EMA_START = 10


def train(run: Run) -> None:
    """Train until run.done, with a checkpoint at the end. Raises HeadraceError; the last checkpoint then stays."""
    flags, model, optimizer = run.flags, run.model, run.optimizer
    loss_of = torch.compile(model.loss) if flags.compile else model.loss
    parameters = list(model.parameters())
    recent = Recent()
    for batch in run.data.batches():
        examples = run.examples(batch)
        if run.step == 0 and flags.pretrained is None:
            model.measure(examples.images)
        # Dropout and style are functions of the seed and the step, so a resumed run makes the same.
        torch.manual_seed(flags.seed * 1_000_003 + run.step)
        model.train()
        with torch.autocast(run.device.type, torch.bfloat16, enabled=flags.use_amp):
            losses: Losses = loss_of(examples, flags.beta)
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, flags.clip_norm)
        _check_finite(run, losses.total.detach(), norm)
        for group, rate in zip(optimizer.param_groups, (flags.lr, flags.lr_backbone), strict=False):
            group["lr"] = rate * _rate(run)
        optimizer.step()
        run.step += 1
        _average(run)
        recent.add(len(examples.state), loss=losses.total, l1=losses.l1, kl=losses.kl, norm=norm)
        run.logs.advance(run.step)
        if run.step % flags.log_every == 0:
            run.logs.write(run.step, {"epoch": run.data.epoch, **recent.means(), "lr": flags.lr * _rate(run)})
            recent = Recent()
        if flags.validation_share and run.step % flags.validate_every == 0:
            validate(run)
        if run.step % flags.save_every == 0:
            run.save()
        if run.done:
            break
    if run.step:
        run.save()


@torch.no_grad()
def validate(run: Run) -> None:
    """Log the error of the policy, as it is used, on episodes that it is not trained on."""
    run.policy.eval()
    total = weight = 0.0
    with run.validation() as data:
        if not data.samples:
            return
        for batch in data.batches(min(len(data), run.flags.validation_batches)):
            examples = run.examples(batch)
            total += float(run.policy.error(examples)) * len(examples.state)
            weight += len(examples.state)
    run.logs.write(run.step, {"validation_l1": total / weight})


def _check_finite(run: Run, loss: Tensor, norm: Tensor) -> None:
    """Before the weights change: NaN in them could not be undone."""
    if bool((loss + norm).isfinite()):
        return
    good = f"the last good checkpoint is of step {run.saved} in {run.flags.out}" if run.saved >= 0 else "none was saved"
    raise ModelError(
        f"step {run.step}: the loss is {float(loss):g} and its gradient {float(norm):g} long, so training stops; "
        f"{good}; a lower --lr may help, and headrace verify finds damaged data"
    )


def _rate(run: Run) -> float:
    """The learning rate of this step, as a share of the flag's."""
    if run.flags.schedule == "constant" or run.flags.steps is None:
        return 1.0
    return (1 + math.cos(math.pi * min(run.step / run.flags.steps, 1.0))) / 2


@torch.no_grad()
def _average(run: Run) -> None:
    if run.average is None:
        return
    share = min(run.flags.ema, run.step / (run.step + _EMA_START))
    for ours, theirs in zip(run.average.parameters(), run.model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - share)
    for kept, now in zip(run.average.buffers(), run.model.buffers(), strict=True):
        kept.copy_(now)


class Recent:
    """Means since it was made; nothing waits for the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._examples = 0
        self._began = time.monotonic()

    def add(self, examples: int, **values: Tensor) -> None:
        """Scalars of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._steps += 1
        self._examples += examples

    def means(self) -> dict[str, float]:
        """With the examples a second."""
        seconds = time.monotonic() - self._began
        found = {name: float(value) / self._steps for name, value in self._sums.items()}
        found["examples_per_s"] = self._examples / max(seconds, 1e-9)
        return found
