"""How a researcher meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from protocol.errors import ConfigurationError
from tests.trainer.live.worlds import LOW, expected, names
from trainer import LiveDataset, Loading


def test_the_package_costs_nothing_until_it_is_used() -> None:
    program = (
        "import sys, trainer\n"
        "assert not {'torch', 'numpy', 'h5py'} & set(sys.modules)\n"
        "from trainer import LiveDataset\n"
        "assert 'torch' in sys.modules and LiveDataset.__name__ == 'LiveDataset'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=Path(__file__).parents[3])
    with pytest.raises(ImportError, match="DeadDataset"):
        from trainer import DeadDataset  # noqa: F401


def test_a_data_loader_takes_it_as_it_is(small: Path) -> None:
    with LiveDataset(small, LOW) as data:
        assert set(names(DataLoader(data, batch_size=None))) == expected(small)


def test_a_data_loader_with_workers_of_its_own_says_what_to_do(small: Path) -> None:
    with (
        LiveDataset(small, LOW) as data,
        pytest.raises(ConfigurationError, match=r"loading=Loading\(workers=N, processes=True\)"),
    ):
        list(DataLoader(data, batch_size=None, num_workers=1))


@pytest.mark.parametrize("workers", [0, 3])
def test_nothing_is_left_open(small: Path, seen: Path, workers: int, no_leaks: None) -> None:
    del no_leaks
    with LiveDataset([small, seen], LOW, loading=Loading(workers=workers)) as data:
        for _ in data.batches(5):
            pass
        for _ in data:
            break
