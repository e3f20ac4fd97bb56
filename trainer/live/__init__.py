"""A dataset that is sampled while it grows. docs/trainer.md shows how to use it."""

from trainer.live.dataset import LiveDataset
from trainer.live.options import Follow, Limit, Loading, Order, Sample, Selection

__all__ = ["Follow", "Limit", "LiveDataset", "Loading", "Order", "Sample", "Selection"]
