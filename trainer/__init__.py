"""The trainer: reads the dataset while it grows, trains on it, publishes weights.

`from trainer import LiveDataset` needs torch; nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.live import Follow, Limit, LiveDataset, Loading, Order, Sample, Selection

__all__ = ["Follow", "Limit", "LiveDataset", "Loading", "Order", "Sample", "Selection"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import trainer.live

    return getattr(trainer.live, name)
