"""The model's shapes, its loss against sums done by hand, and the names of its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from protocol.errors import ConfigurationError
from trainer.act.config import ActConfig
from trainer.act.model import Act, Examples, kl_to_standard_normal, masked_l1
from trainer.act.resnet import ResNet18, feature_size

SMALL = ActConfig(
    state=5, action=3, chunk=6, hidden=32, feedforward=64, heads=4, encoder_layers=2, decoder_layers=2, latent=4
)
SEEING = ActConfig(
    state=5,
    action=3,
    cameras=("front", "wrist"),
    image_height=48,
    image_width=70,
    chunk=6,
    hidden=32,
    feedforward=64,
    heads=4,
    encoder_layers=1,
    latent=4,
    backbone_width=4,
)


def examples(config: ActConfig, batch: int = 4, seed: int = 0) -> Examples:
    made = torch.Generator().manual_seed(seed)
    size = (batch, 3, config.image_height, config.image_width)
    images = {name: torch.randint(0, 256, size, generator=made, dtype=torch.uint8) for name in config.cameras}
    is_pad = torch.arange(config.chunk)[None] >= torch.tensor([config.chunk, 1, 3, 4])[:batch, None]
    action = torch.randn(batch, config.chunk, config.action, generator=made)
    return Examples(torch.randn(batch, config.state, generator=made), images, action, is_pad)


@pytest.mark.parametrize("config", [SMALL, SEEING])
def test_shapes(config: ActConfig) -> None:
    torch.manual_seed(0)
    model = Act(config)
    given = examples(config)
    assert model(given.state, given.images).shape == (4, config.chunk, config.action)
    losses = model.loss(given, 10.0)
    assert losses.total.shape == losses.l1.shape == losses.kl.shape == ()
    assert losses.total.item() == pytest.approx(losses.l1.item() + 10 * losses.kl.item(), rel=1e-5)
    assert model.error(given).shape == ()


def test_every_weight_is_trained() -> None:
    """A part that nothing depends on would be the original's bug: it used the first layer of its decoder only."""
    torch.manual_seed(0)
    for config in (SMALL, SEEING):
        model = Act(config)
        model.loss(examples(config), 10.0).total.backward()  # type: ignore[no-untyped-call]
        idle = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
        # As in DETR the first layer begins with zeros, so that its queries have nothing to tell each other at first.
        assert all(name.startswith(("decoder.0.attention.", "decoder.0.norm1.")) for name in idle), idle


def test_the_loss_divides_by_what_counts() -> None:
    """Against numpy: padding neither adds to the sum nor to what it is divided by."""
    draw = np.random.default_rng(0)
    found, wanted = draw.normal(size=(2, 4, 6, 3)).astype(np.float32)
    lengths = [6, 1, 3, 4]
    total = sum(float(np.abs(found[b, :n] - wanted[b, :n]).sum()) for b, n in enumerate(lengths))
    is_pad = torch.from_numpy(np.arange(6)[None] >= np.array(lengths)[:, None])
    loss = masked_l1(torch.from_numpy(found), torch.from_numpy(wanted), is_pad)
    assert loss.item() == pytest.approx(total / (3 * sum(lengths)), rel=1e-5)
    assert masked_l1(torch.ones(1, 2, 3), torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)).item() == 0


def test_what_is_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Act(SMALL).eval()
    given = examples(SMALL)
    changed = Examples(
        given.state, {}, torch.where(given.is_pad[..., None], torch.tensor(99.0), given.action), given.is_pad
    )
    found = []
    for each in (given, changed):
        torch.manual_seed(1)
        found.append(model.loss(each, 10.0))
    assert found[0].total.item() == pytest.approx(found[1].total.item(), rel=1e-5)
    assert found[0].kl.item() == pytest.approx(found[1].kl.item(), rel=1e-5)


def test_kl_against_torch() -> None:
    mean, log_variance = torch.randn(7, 4), torch.randn(7, 4)
    ours = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(torch.zeros(7, 4), torch.ones(7, 4))
    expected = torch.distributions.kl_divergence(ours, standard).sum(dim=1).mean()
    assert kl_to_standard_normal(mean, log_variance).item() == pytest.approx(expected.item(), rel=1e-5)


def test_units_of_the_data() -> None:
    """Data that are shifted and stretched, with the statistics to match, give actions shifted and stretched alike."""
    torch.manual_seed(0)
    model = Act(SMALL).eval()
    state = torch.randn(2, 5)
    before = model(state, {})
    model.state_normalisation.set(torch.full((5,), 3.0), torch.full((5,), 7.0))
    model.action_normalisation.set(torch.full((3,), -2.0), torch.full((3,), 5.0))
    assert torch.allclose(model(state * 7 + 3, {}), before * 5 - 2, atol=1e-4)
    model.state_normalisation.set(torch.zeros(5), torch.zeros(5))
    assert model.state_normalisation.std.min().item() == pytest.approx(1e-2)


def test_it_learns_a_few_examples_by_heart() -> None:
    torch.manual_seed(0)
    config = ActConfig(
        state=5, action=3, chunk=6, hidden=32, feedforward=64, heads=4, encoder_layers=1, latent=4, dropout=0.0
    )
    model, given = Act(config), examples(config)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    before = model.error(given).item()
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(given, 10.0).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert model.error(given).item() < 0.1 * before


def test_pictures_make_a_difference() -> None:
    torch.manual_seed(0)
    model, given = Act(SEEING).eval(), examples(SEEING)
    model.measure(given.images)
    before = model(given.state, given.images)
    for name in SEEING.cameras:
        other = {**given.images, name: given.images[name].flip(0)}
        assert not torch.allclose(model(given.state, other), before, atol=1e-5)


def torchvision_names() -> set[str]:
    """Of `torchvision.models.resnet18(norm_layer=FrozenBatchNorm2d)`, without the classifier `fc`."""
    norm = ("weight", "bias", "running_mean", "running_var")
    names = {"conv1.weight"} | {f"bn1.{each}" for each in norm}
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            for part in (1, 2):
                names.add(f"layer{stage}.{block}.conv{part}.weight")
                names |= {f"layer{stage}.{block}.bn{part}.{each}" for each in norm}
        if stage > 1:
            names.add(f"layer{stage}.0.downsample.0.weight")
            names |= {f"layer{stage}.0.downsample.1.{each}" for each in norm}
    return names


def test_the_names_are_torchvisions() -> None:
    weights = ResNet18().state_dict()
    assert set(weights) == torchvision_names()
    assert len(weights) == 100
    assert weights["conv1.weight"].shape == (64, 3, 7, 7)
    assert weights["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
    assert weights["layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)
    convolutions = sum(value.numel() for name, value in weights.items() if value.dim() == 4)
    assert convolutions == 11_166_912  # 11 689 512 of torchvision's, less fc's 513 000 and the norms' 9 600


@pytest.mark.parametrize(("height", "width"), [(480, 640), (84, 84), (47, 65)])
def test_size_of_the_features(height: int, width: int) -> None:
    found: Tensor = ResNet18(2)(torch.zeros(1, 3, height, width))
    assert found.shape == (1, 16, feature_size(height), feature_size(width))


def test_measured_normalisation() -> None:
    """What was measured makes the features of the same pictures about as large at the end as at the beginning."""
    torch.manual_seed(0)
    backbone = ResNet18(8)
    images = torch.randn(8, 3, 64, 64)
    backbone.measure(images)
    with torch.no_grad():
        first = backbone.bn1(backbone.conv1(images))
        assert first.mean(dim=(0, 2, 3)).abs().max().item() < 1e-4
        assert first.std(dim=(0, 2, 3)).sub(1).abs().max().item() < 1e-2
        assert 0.1 < backbone(images).std().item() < 10
    weights = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.train()
    backbone(torch.randn(8, 3, 64, 64) * 5)
    assert all(torch.equal(value, weights[name]) for name, value in backbone.state_dict().items())


def test_a_size_that_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="multiple of 4 and of --heads, found 30 and 4"):
        Act(ActConfig(state=5, action=3, hidden=30, heads=4))
    with pytest.raises(ConfigurationError, match="cannot be built"):
        Act(ActConfig(state=0, action=3))
