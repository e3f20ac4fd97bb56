"""A shard as raw h5py and HDF5's own tools see it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from protocol.errors import DatasetError
from protocol.layout import EPISODE, FRAME, Capacity, ShardLayout, dataset_names, dataset_type, shard_bytes
from protocol.spec import StreamSpec
from sink.shard_file import create_shard
from tests.fakes import CheckingReader, counting_spec
from tests.sink.bench import SHARD_BYTES, Bench

CAPACITY = Capacity(blob_bytes=100_000, steps=300, episodes=50, documents=16)
# Byte 8 of an HDF5 file is the version of its superblock; only version 0 has no flag "open for writing".
SUPERBLOCK_VERSION = 8


@pytest.fixture
def layout(tmp_path: Path) -> ShardLayout:
    return create_shard(tmp_path, 3, counting_spec(), CAPACITY, "uuid")


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_every_dataset_is_contiguous_allocated_early_never_filled_and_of_fixed_size(layout: ShardLayout) -> None:
    with h5py.File(layout.path, "r") as file:
        found = datasets(file)
        assert set(found) == set(dataset_names(layout.spec))
        for name, item in found.items():
            plan = item.id.get_create_plist()
            assert plan.get_layout() == h5py.h5d.CONTIGUOUS, name
            assert plan.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY, name
            assert plan.get_fill_time() == h5py.h5d.FILL_TIME_NEVER, name
            assert item.id.get_offset() is not None, name
            assert not item.dtype.hasobject, name
            assert item.maxshape == item.shape, name
            for field in (item.dtype, *(item.dtype[part] for part in item.dtype.names or ())):
                assert h5py.check_string_dtype(field) is None or field.kind == "S", name


def test_names_types_and_shapes_are_those_of_the_specification(layout: ShardLayout) -> None:
    with h5py.File(layout.path, "r") as file:
        for name, item in datasets(file).items():
            assert (item.dtype, item.shape) == dataset_type(layout.spec, CAPACITY, name), name
        # The names of the specification, spelled out: a change of the format must be meant.
        assert file["episodes"].dtype.names == EPISODE.names
        assert file["episodes"].dtype.itemsize == 168
        assert file["steps/images/camera0"].dtype == np.dtype([("offset", "<u8"), ("size", "<u4"), ("checksum", "<u4")])
        assert file["documents"].dtype.itemsize == 88
        assert file["seal"].dtype.itemsize == 48
        assert file["steps/action"].dtype == np.dtype("<f4")
        assert file["steps/action"].shape == (300, 3)
        assert file["steps/observations/touch"].dtype == np.dtype(bool)
        assert file["blob"].shape == (100_000,)
        assert sorted(file.attrs) == [
            "created_ns", "dataset_uuid", "format_version", "metadata_checksum", "shard", "step_capacity", "stream_spec"
        ]  # fmt: skip
        assert StreamSpec.from_json(bytes(file.attrs["stream_spec"])) == layout.spec
        assert FRAME.itemsize == 16


def test_the_space_is_reserved_at_once_and_the_superblock_has_no_writer_flag(layout: ShardLayout) -> None:
    stat = layout.path.stat()
    assert stat.st_blocks * 512 >= shard_bytes(layout.spec, CAPACITY)
    assert layout.path.read_bytes()[SUPERBLOCK_VERSION] == 0
    assert not list(layout.path.parent.glob("*.preparing"))


def test_datasets_do_not_share_a_page_with_each_other(layout: ShardLayout) -> None:
    large = [
        name for name in dataset_names(layout.spec)
        if np.prod(dataset_type(layout.spec, CAPACITY, name)[1]) * dataset_type(layout.spec, CAPACITY, name)[0].itemsize
        >= 4096
    ]  # fmt: skip
    assert all(layout.offsets[name] % 4096 == 0 for name in large), layout.offsets


def test_writing_sealing_and_recovering_change_no_byte_of_the_metadata(tmp_path: Path) -> None:
    def metadata(path: Path) -> bytes:
        data = bytearray(path.read_bytes())
        layout = ShardLayout.read(path)
        for name in dataset_names(layout.spec):
            dtype, shape = dataset_type(layout.spec, layout.capacity, name)
            size = dtype.itemsize * int(np.prod(shape))
            data[layout.offsets[name] : layout.offsets[name] + size] = bytes(size)
        return bytes(data)

    with Bench(tmp_path) as bench:
        path = bench.store.active.path
        before = metadata(path)
        assert before.strip(b"\0")
        index = 0
        while bench.store.active.path == path:
            bench.put(index)
            index += 1
        bench.put(index)
    with Bench(tmp_path):
        pass
    assert ShardLayout.read(path).number == 0
    assert metadata(path) == before
    assert CheckingReader(tmp_path).indices == list(range(index + 1))


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.sink.bench import Bench
    bench = Bench(Path(sys.argv[1]))
    index = 0
    while True:
        bench.put(index)
        print(index, flush=True)
        index += 1
    """
)


def test_shards_of_a_killed_writer_open_without_a_repair(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    repository = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(next(writer.stdout)) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout]
    reader = CheckingReader(tmp_path)  # opens with h5py.File(path, "r"), nothing else was done to the files
    assert reader.indices[: len(said)] == said
    assert len(reader.indices) <= len(said) + 1
    for path in reader.paths():
        assert path.read_bytes()[SUPERBLOCK_VERSION] == 0
        with h5py.File(path, "r+"):
            pass  # and for writing as well


@pytest.mark.parametrize("tool", ["h5ls", "h5dump"])
def test_the_tools_of_hdf5_read_a_shard_that_is_being_written(tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    bench = Bench(tmp_path)
    bench.put(0, 1, 2)
    arguments = ["-r"] if tool == "h5ls" else ["-H"]
    shown = subprocess.run(
        [tool, *arguments, str(bench.store.active.path)], capture_output=True, text=True, check=True, timeout=60
    )
    for name in ("episodes", "blob", "action", "camera0"):
        assert name in shown.stdout
    bench.abandon()


def test_an_existing_shard_is_never_replaced(layout: ShardLayout) -> None:
    before = layout.path.read_bytes()
    with pytest.raises(DatasetError, match=r"000003\.h5.*exists"):
        create_shard(layout.path.parent, 3, counting_spec(), CAPACITY, "uuid")
    assert layout.path.read_bytes() == before
    assert not list(layout.path.parent.glob("*.preparing"))


def test_a_stream_without_cameras_or_columns_is_fine(tmp_path: Path) -> None:
    spec = counting_spec(cameras=0)
    with Bench(tmp_path, spec, SHARD_BYTES) as bench:
        bench.put(*range(10))
    assert CheckingReader(tmp_path, spec).indices == list(range(10))
    layout = create_shard(tmp_path, 0, StreamSpec("nothing", 1.0, 10), CAPACITY, "uuid")
    with h5py.File(layout.path, "r") as file:
        assert sorted(datasets(file)) == ["blob", "documents", "episodes", "seal"]
