"""A mark as plain numbers and strings, to be kept with a checkpoint."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.errors import ConfigurationError
from trainer.live.catalogue import Snapshot
from trainer.live.mixing import key_of
from trainer.live.options import Order, Selection
from trainer.live.plan import Block, Mark

_FORMAT = 1
# Options that older states do not name, with what they meant then.
_SINCE: dict[str, Any] = {"include_discarded": False}


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Blocks: samples taken before, and the shards and flag files of which more counts than in the block before."""

    format: int
    options: dict[str, Any]
    epoch: int
    taken: int
    sampled: int
    batches: int
    blocks: list[tuple[int, Snapshot]]
    seen: Snapshot | None


def describe(order: Order, selection: Selection) -> dict[str, Any]:
    """The options that the sequence of samples depends on. A function as `where` cannot be compared."""
    return {
        "mode": order.mode,
        "seed": order.seed,
        "per": order.per,
        "streams": sorted(selection.streams),
        "success": selection.success,
        "attributes": f"{key_of(dict(selection.attributes)):016x}",
        "where": selection.where is not None,
        "part": selection.part,
        "validation_share": float(selection.validation_share),
        "split_by": selection.split_by,
        "include_discarded": selection.include_discarded,
    }


def to_state(mark: Mark, options: dict[str, Any]) -> dict[str, Any]:
    """A mark as JSON can hold it."""
    blocks, before = [], Snapshot()
    for block in mark.blocks:
        grown = {key: rows for key, rows in block.snapshot.items() if before.get(key) != rows}
        blocks.append((block.taken, grown))
        before = block.snapshot
    numbers = (mark.epoch, mark.taken, mark.sampled, mark.batches)
    state: dict[str, Any] = msgspec.to_builtins(_State(_FORMAT, options, *numbers, blocks, mark.seen))
    return state


def from_state(state: object, options: dict[str, Any]) -> Mark:
    """The mark of a state. Raises ConfigurationError if it is none, or was made with other options."""
    try:
        found = msgspec.convert(state, _State)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"expected what LiveDataset.state_dict() returned: {error}") from error
    if found.format != _FORMAT:
        raise ConfigurationError(f"a state of format {found.format}; this release reads {_FORMAT}")
    saved = {**_SINCE, **found.options}
    other = [name for name in options if options[name] != saved.get(name)]
    if other:
        rows = "; ".join(f"{name}: saved with {saved.get(name)!r}, now {options[name]!r}" for name in other)
        raise ConfigurationError(f"the state was made with other options, samples would come in another order: {rows}")
    blocks, snapshot = [], Snapshot()
    for taken, grown in found.blocks:
        snapshot = {**snapshot, **grown}
        blocks.append(Block(taken, snapshot))
    return Mark(found.epoch, found.taken, found.sampled, found.batches, tuple(blocks), found.seen)
