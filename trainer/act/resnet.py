"""ResNet-18 without its classifier; the names of its weights are torchvision's, so that a file of those can be loaded.

Batch normalisation is frozen, as in the paper: with 8 images a batch its statistics would be noise. Of pretrained
weights they come from the file; weights that are trained from scratch measure them once, on the first batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BLOCKS = 2
# Height and width of the features against those of the image.
STRIDE = 32
_EPSILON = 1e-5


class FrozenBatchNorm2d(nn.Module):
    """Scale and shift that are not trained. `measuring`: take the statistics of what comes, and keep them."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.measuring = False
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        if self.measuring:
            self.running_mean.copy_(x.mean(dim=(0, 2, 3)))  # [C]
            self.running_var.copy_(x.var(dim=(0, 2, 3), correction=0))  # [C]
        scale = self.weight * (self.running_var + _EPSILON).rsqrt()  # [C]
        shift = self.bias - self.running_mean * scale  # [C]
        return x * scale[:, None, None] + shift[:, None, None]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a way round them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenBatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] → [B, outputs, H/stride, W/stride]."""
        round_it = x if self.downsample is None else self.downsample(x)  # [B, outputs, H/s, W/s]
        x = functional.relu(self.bn1(self.conv1(x)))  # [B, outputs, H/s, W/s]
        return functional.relu(self.bn2(self.conv2(x)) + round_it)  # [B, outputs, H/s, W/s]


class ResNet18(nn.Module):
    """Images float32[B, 3, H, W], normalised as ImageNet's → features [B, 8·width, ⌈H/32⌉, ⌈W/32⌉]."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.features = 8 * width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        x = functional.relu(self.bn1(self.conv1(images)))  # [B, w, H/2, W/2]
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # [B, w, H/4, W/4]
        x = self.layer2(self.layer1(x))  # [B, 2w, H/8, W/8]
        found: Tensor = self.layer4(self.layer3(x))  # [B, 8w, H/32, W/32]
        return found

    @torch.no_grad()
    def measure(self, images: Tensor) -> None:
        """Take the statistics of normalisation from these images, [B, 3, H, W]; layer by layer, each on what the
        layers before it then give."""
        norms = [module for module in self.modules() if isinstance(module, FrozenBatchNorm2d)]
        for norm in norms:
            norm.measuring = True
        self(images)
        for norm in norms:
            norm.measuring = False


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *(BasicBlock(outputs, outputs, 1),) * (_BLOCKS - 1))


def feature_size(pixels: int) -> int:
    """Rows (or columns) of the features of an image with so many rows (columns)."""
    return -(-pixels // STRIDE)
