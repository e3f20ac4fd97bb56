"""SPEC.md says what the code does: its tables, numbers, test vectors and its example are read and compared.

Where this fails, one of the two is wrong. A change of the protocol is a change of both, and of the version.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import h5py
import msgpack
import msgspec
import numpy as np
import pytest
import zmq
from msgspec import inspect

from deploy import key_files
from producers.publisher import Publisher
from protocol import flags as flag_lines
from protocol import jpeg, layout, lease_book, messages, packing, waiting_hellos
from protocol.checksum import (
    episode_checksum,
    flag_checksum,
    frame_checksum,
    metadata_checksum,
    row_checksum,
    rows_checksum,
)
from protocol.messages import FromProducer, FromSink, Goal, Outcome, Producer, RefusalCode
from protocol.orders import Attempt
from protocol.producer_delivery import HELLO_INTERVAL_S, MAX_HELLO_INTERVAL_S, RETRY_FULL_SINK_S, ProducerDelivery
from protocol.sink_delivery import DeliveryConfig
from protocol.spec import (
    DTYPES,
    MAX_ATTRIBUTE_BYTES,
    MAX_CAMERAS,
    MAX_COLUMNS,
    MAX_DOCUMENT_BYTES,
    MAX_FRAME_BYTES,
    MAX_SIDE,
    MAX_SPEC_BYTES,
    MAX_STEPS,
    MIN_WINDOW_BYTES,
    RESERVED_ENDINGS,
    WINDOW_A_FRAME,
    Camera,
    Column,
    StreamSpec,
)
from serving import connections
from serving.connections import ConnectionLimits
from sink import daemon, shard_file, writer
from sink.__main__ import SinkFlags
from sink.daemon import Sink, SinkConfig
from sink.dataset import dataset_uuid
from sink.disk import Disk
from sink.lock import DirectoryLock
from sink.resources import plan_memory
from sink.stream_store import StreamStore, plan_capacity

TEXT = (Path(messages.__file__).parent / "SPEC.md").read_text()
DEMO = StreamSpec(
    "demo/two", 20.0, 100, (Column("action", "float32", (2,)), Column("done", "bool")), (Camera("front", 48, 64),)
)

Row = dict[str, str]


# --- reading the document ----------------------------------------------------------------------------------------


def table(heading: str) -> list[Row]:
    """The first table after `#### heading`."""
    place = re.search(rf"^#### `?{re.escape(heading)}`?$", TEXT, re.MULTILINE)
    assert place, f"SPEC.md has no heading {heading!r}"
    return next(tables(TEXT[place.end() :]))


def table_with(*columns: str) -> list[Row]:
    """The only table with exactly these columns."""
    found = [rows for rows in tables(TEXT, keep_empty=False) if tuple(rows[0]) == columns]
    assert len(found) == 1, (columns, len(found))
    return found[0]


def tables(text: str, keep_empty: bool = True) -> Iterator[list[Row]]:
    """All tables as rows of column → cell."""
    for found in re.finditer(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in found[0].splitlines()]
        names, ruler, *cells = lines
        assert all(set(cell) <= {"-"} for cell in ruler), names
        assert all(len(row) == len(names) for row in cells), f"a row of the table {names} has another number of cells"
        rows = [dict(zip(names, row, strict=True)) for row in cells]
        if rows or keep_empty:
            yield rows


def unquoted(cell: str) -> str:
    return cell.strip("`")


def test_sections_are_numbered_without_a_gap_and_references_lead_somewhere() -> None:
    numbers = re.findall(r"^##+ (\d+(?:\.\d+)?)\.? ", TEXT, re.MULTILINE)
    majors = [int(number) for number in numbers if "." not in number]
    assert majors == list(range(len(majors)))
    for major in majors:
        minors = [int(number.split(".")[1]) for number in numbers if number.startswith(f"{major}.")]
        assert minors == list(range(1, len(minors) + 1)), major
    prose = re.sub(r"```.*?```|^\|.*$|ZMTP 3.x|HDF5 1.8", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    for reference in re.findall(r"(?:\(|of |rule of |steps .{0,12} of )([0-5]\.\d+)\b", prose):
        assert reference in numbers, f"section {reference} is referred to and does not exist"


# --- messages ----------------------------------------------------------------------------------------------------


def _upper(number: int) -> str:
    power = (number + 1).bit_length() - 1
    return f"2^{power}-1" if power >= 31 and number + 1 == 1 << power else str(number)


def _allowed_int(kind: inspect.IntType) -> str:
    if kind.ge is None:
        return "–"
    upper = kind.le if kind.le is not None else kind.lt - 1 if kind.lt is not None else None
    return f"at least {kind.ge}" if upper is None else f"{kind.ge} to {_upper(upper)}"


def _describe(kind: inspect.Type) -> tuple[str, str]:
    """A type as the columns `type` and `allowed` of SPEC.md put it."""
    match kind:
        case inspect.UnionType():
            (only,) = (inner for inner in kind.types if not isinstance(inner, inspect.NoneType))
            name, allowed = _describe(only)
            return f"{name} or nil", allowed
        case inspect.IntType():
            return "int", _allowed_int(kind)
        case inspect.FloatType():
            return "float", "–"
        case inspect.BoolType():
            return "bool", "–"
        case inspect.StrType(pattern=str(pattern)):
            return "str", f"`{pattern}`"
        case inspect.StrType(max_length=None):
            return "str", "–"
        case inspect.StrType():
            return "str", f"{kind.min_length or 0} to {kind.max_length} characters"
        case inspect.VarTupleType():
            name, allowed = _describe(kind.item_type)
            least = f"{kind.min_length} to" if kind.min_length else "at most"
            most = [f"{least} {kind.max_length}"] if kind.max_length is not None else []
            each = [f"each {allowed}"] if allowed != "–" else []
            return f"array of {name}", ", ".join(most + each) or "–"
        case inspect.StructType():
            return f"map {kind.cls.__name__}", "–"
        case inspect.EnumType():
            return "int", " or ".join(str(int(member)) for member in kind.cls)
        case inspect.LiteralType():
            codes = set(kind.values) == set(get_args(RefusalCode))
            return "str", "a code of 2.14" if codes else " or ".join(f"`{value}`" for value in kind.values)
    raise NotImplementedError(kind)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "nil"
    return {"()": "`[]`", "''": '`""`', "False": "false"}.get(repr(value), repr(value))


def _rows(cls: type, leave_out: set[str]) -> list[Row]:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    rows = []
    for field in kind.fields:
        if field.encode_name not in leave_out:
            name, allowed = _describe(field.type)
            cells = f"`{field.encode_name}`", name, allowed, _default(field)
            rows.append(dict(zip(("field", "type", "allowed", "default"), cells, strict=True)))
    return rows


def _without_meaning(rows: list[Row]) -> list[Row]:
    assert all(row["meaning"] for row in rows), rows
    return [{name: cell for name, cell in row.items() if name != "meaning"} for row in rows]


def _tag(cls: type) -> str:
    return str(cls.__struct_config__.tag)  # type: ignore[attr-defined]


MESSAGES = (*get_args(FromProducer), *get_args(FromSink))


@pytest.mark.parametrize("cls", MESSAGES, ids=_tag)
def test_every_field_of_a_message_is_described(cls: type) -> None:
    assert _without_meaning(table(_tag(cls))) == _rows(cls, leave_out={"session", "seq"})


@pytest.mark.parametrize("cls", [Producer, Goal, StreamSpec, Column, Camera], ids=lambda cls: cls.__name__)
def test_every_field_of_an_inner_map_is_described(cls: type) -> None:
    assert _without_meaning(table(cls.__name__)) == _rows(cls, leave_out=set())


def test_the_envelope_is_what_all_messages_share() -> None:
    described = _without_meaning(table("envelope"))
    assert described[0] == {"field": "`type`", "type": "str", "allowed": "–", "default": "required"}
    for cls in MESSAGES:
        assert _rows(cls, leave_out=set())[:2] == described[1:]


def test_no_message_is_described_that_does_not_exist() -> None:
    section = TEXT[TEXT.index("### 2.4") : TEXT.index("### 2.7")]
    inner = {"Producer", "Goal", "StreamSpec", "Column", "Camera"}
    assert set(re.findall(r"^#### `(\w+)`", section, re.MULTILINE)) == {_tag(cls) for cls in MESSAGES} | inner
    to_sink, to_producer = section.split("### 2.5")
    for cls in get_args(FromProducer):
        assert f"#### `{_tag(cls)}`" in to_sink
    for cls in get_args(FromSink):
        assert f"#### `{_tag(cls)}`" in to_producer


def test_outcomes_and_dtypes() -> None:
    outcomes = table_with("outcome", "name", "meaning")
    assert [(row["outcome"], row["name"]) for row in outcomes] == [(str(int(o)), o.name) for o in Outcome]
    dtypes = table_with("dtype", "bytes", "on the wire")
    assert [(row["dtype"], int(row["bytes"])) for row in dtypes] == [(d, np.dtype(d).itemsize) for d in DTYPES]


def test_unknown_fields_are_ignored_in_messages_and_refused_in_inner_maps() -> None:
    hello = messages.Hello(session=7, protocol=1, producer=Producer("p"), spec=DEMO, goal=Goal())
    plain = msgpack.unpackb(messages.encode(hello))
    assert messages.decode_from_producer(msgpack.packb({"new": 1, **plain})) == hello
    for inner in ("producer", "spec", "goal"):
        with pytest.raises(messages.ProtocolError, match="unknown field"):
            messages.decode_from_producer(msgpack.packb({**plain, inner: {**plain[inner], "new": 1}}))
    for inner in ("columns", "cameras"):
        spec = {**plain["spec"], inner: [{**plain["spec"][inner][0], "new": 1}]}
        with pytest.raises(messages.ProtocolError, match="unknown field"):
            messages.decode_from_producer(msgpack.packb({**plain, "spec": spec}))


# --- refusals ----------------------------------------------------------------------------------------------------

REFUSALS = table_with("code", "scope", "when", "then")


def test_every_refusal_code_is_described_in_the_order_of_the_code() -> None:
    assert [unquoted(row["code"]) for row in REFUSALS] == list(get_args(RefusalCode))


@pytest.mark.parametrize("row", [row for row in REFUSALS if "session" in row["scope"]], ids=lambda row: row["code"])
def test_our_producer_does_what_the_document_says_when_its_session_is_refused(row: Row) -> None:
    producer = ProducerDelivery(Producer("p"), DEMO, Goal(), 0.0, iter(range(1, 100)).__next__)
    producer.take_outgoing()
    code: Any = unquoted(row["code"])
    producer.receive(10.0, messages.Refused(session=1, seq=0, code=code, why="because"))
    at_once = [type(part.message).__name__ for part in producer.take_outgoing()]
    producer.tick(10.0 + RETRY_FULL_SINK_S)
    later = [type(part.message).__name__ for part in producer.take_outgoing()]
    then = row["then"].split(":")[0]
    expected = {
        "again at once": (["Hello"], False),
        f"again after {RETRY_FULL_SINK_S:g} s": ([], False),
        "stop": ([], True),
    }
    assert (at_once, producer.finished) == expected[then]
    assert (later == ["Hello"]) == (then != "stop")


# --- numbers -----------------------------------------------------------------------------------------------------


def _upper_limit(cls: type, field: str) -> int:
    (found,) = (f.type for f in inspect.type_info(cls).fields if f.encode_name == field)  # type: ignore[attr-defined]
    if isinstance(found, inspect.VarTupleType):
        assert found.max_length is not None
        return found.max_length
    assert isinstance(found, inspect.IntType)
    assert found.le is not None
    return int(found.le)


def test_every_limit_has_its_number() -> None:
    assert _upper_limit(messages.Hello, "holding") == _upper_limit(messages.Want, "count")
    expected = {
        "protocol version": messages.PROTOCOL_VERSION,
        "format version": layout.FORMAT_VERSION,
        "format version of a packed shard": layout.PACKED_VERSION,
        "steps of a group of video": packing.MAX_GOP,
        "header [bytes]": messages.MAX_HEADER_BYTES,
        "payload frame [bytes]": MAX_FRAME_BYTES,
        "spec as JSON [bytes]": MAX_SPEC_BYTES,
        "attributes [bytes]": MAX_ATTRIBUTE_BYTES,
        "document [bytes]": MAX_DOCUMENT_BYTES,
        "documents of one `end`": _upper_limit(messages.End, "documents"),
        "smallest window [bytes]": MIN_WINDOW_BYTES,
        "columns of a stream": MAX_COLUMNS,
        "cameras of a stream": MAX_CAMERAS,
        "side of an image [pixels]": MAX_SIDE,
        "steps of an episode": MAX_STEPS,
        "indices in `holding`, leases in one `want`": messages.MAX_HOLDING,
        "steps in one `frames`": _upper_limit(messages.Frames, "count"),
        "documents of a shard": plan_capacity(DEMO, 1 << 20).documents,
        "alignment in a shard [bytes]": shard_file._ALIGNMENT,
        "episodes in a group": writer.MAX_GROUP,
        "indices in a line of flags": flag_lines.MAX_FLAGGED,
        "line of flags [bytes]": flag_lines.MAX_LINE_BYTES,
        "flags of a stream [bytes]": flag_lines.MAX_FLAGS_BYTES,
        "reason of a flag [characters]": flag_lines.MAX_REASON,
        "window for each frame of an episode under way [bytes]": WINDOW_A_FRAME,
        "leases of all sessions": DeliveryConfig().max_leases,
        "ranges of taken indices of a stream": lease_book.MAX_FRAGMENTS,
        "an index of `holding` above the lowest free one": lease_book.MAX_AHEAD,
        "indices in `holding` of all that wait for a stream": waiting_hellos.MAX_WAITING_INDICES,
        "bytes waiting on a connection without a session": connections.STRANGER_BYTES,
        "bytes waiting on a connection beside its window": connections.HEADER_BYTES,
        "bytes waiting on all connections without a session": connections.STRANGERS_BYTES,
        "answers waiting for one connection [bytes]": connections.UNREAD_BYTES,
        "documents in memory, of all streams [bytes]": writer.MAX_ALL_DOCUMENTS_BYTES,
    }
    assert {row["limit"]: int(row["value"]) for row in table_with("limit", "value")} == expected


def test_limits_are_the_same_wherever_they_are_named() -> None:
    """Numbers of five and more digits in the prose are limits of the table, defaults, or part of an example."""
    known = {int(row["value"]) for row in table_with("limit", "value")}
    flags = SinkFlags(Path())
    known |= {flags.memory_mib << 20, flags.shard_mib << 20, 0xFFFFFFFF}
    known |= {1_000_000, 30_000, 10_000}  # rate_hz; ZeroMQ options
    prose = re.sub(r"```.*?```|^\| (?:\w+_checksum|`\w+`, session).*$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"\b0\d{5}\.h5", "", prose)
    assert {int(number) for number in re.findall(r"(?<![\w.^])\d{5,}(?![\w.])", prose)} <= known


def test_defaults_and_times() -> None:
    config, flags = DeliveryConfig(), SinkFlags(Path())
    plan = plan_memory(flags.memory_mib, flags.max_producers, flags.max_connections)
    assert (flags.max_producers, flags.max_streams) == (config.max_producers, config.max_streams)
    assert plan.connections == ConnectionLimits().connections
    assert f"{flags.memory_mib << 20} bytes of memory for the process, {config.max_producers} producers" in TEXT
    assert f"{config.max_streams} streams,\n{plan.connections} connections" in TEXT
    assert (config.leases_a_session, connections.SILENCE_S) == (256, 30)
    for ending in RESERVED_ENDINGS:
        assert f"`{ending}`" in TEXT
    assert f"a lease of {config.lease_s:g} s, a heartbeat of {config.heartbeat_s:g} s" in TEXT
    assert f"shards of {flags.shard_mib << 20} bytes of blob" in TEXT
    times = [row["seconds"] for row in table_with("who", "what", "seconds")]
    assert times == [
        f"heartbeat_s, {config.heartbeat_s:g} by default",
        f"3 × heartbeat_s, at least {HELLO_INTERVAL_S:g}",
        f"{HELLO_INTERVAL_S:g}, doubling each time up to {MAX_HELLO_INTERVAL_S:g}",
        f"{RETRY_FULL_SINK_S:g}",
        f"lease_s, {config.lease_s:g} by default",
        f"{config.grace_s / config.heartbeat_s:g} × heartbeat_s",
        f"{daemon._DRAIN_LIMIT_S:g}",
    ]


def test_the_formulas_for_sizes() -> None:
    block = re.search(r"row_bytes\(column\).*?(?=```)", TEXT, re.DOTALL)
    assert block
    for spec in (DEMO, StreamSpec("s", 1.0, 5000, (Column("x", "float64", (100,)),), (Camera("c", 4000, 4000),))):
        known = {"row_bytes": spec.row_bytes, "raw_step_bytes": spec.raw_step_bytes, "max_steps": spec.max_steps}
        known["cameras"] = len(spec.cameras)
        for name in ("max_step_frames_bytes", "max_end_bytes", "min_window_bytes"):
            formula = re.search(rf"^{name} += (.*?)(?:  .*)?$", block[0], re.MULTILINE)
            assert formula, name
            found = eval(formula[1].replace("×", "*"), {"min": min, "max": max}, known)
            assert found == getattr(spec, name), (name, formula[1])
            known[name] = found


def test_socket_options_are_those_of_the_real_sockets(tmp_path: Path) -> None:
    rows = table_with("option", "sink", "producer")
    sink = Sink(SinkConfig(tmp_path, "tcp://127.0.0.1:0"))
    publisher = Publisher("tcp://127.0.0.1:9", DEMO, Goal())
    try:
        for side, socket in (("sink", sink._socket), ("producer", publisher._link.socket)):
            for row in rows:
                if row[side] != "–" and not row["option"].startswith("ROUTER_"):  # those cannot be read back
                    assert socket.get(getattr(zmq, row["option"])) == int(row[side]), (side, row)
    finally:
        publisher.close(flush=False)
        sink.stop()
        sink.run()


def test_the_options_of_a_sink_with_keys_are_those_of_the_real_socket(tmp_path: Path) -> None:
    key_files.add_sink(tmp_path / "keys")
    sink = Sink(SinkConfig(tmp_path / "data", "tcp://127.0.0.1:0", keys=tmp_path / "keys"))
    try:
        for row in table_with("option of CURVE", "sink", "producer"):
            if row["sink"] != "–" and not row["option of CURVE"].endswith("KEY"):  # keys cannot be read back
                found = sink._socket.get(getattr(zmq, row["option of CURVE"]))
                text = found.rstrip(b"\0").decode() if isinstance(found, bytes) else str(found)
                assert text == unquoted(row["sink"]), row
    finally:
        sink.stop()
        sink.run()


# --- disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FRAME", "EPISODE", "DOCUMENT", "SEAL"])
def test_compound_fields_and_their_offsets(name: str) -> None:
    dtype: np.dtype[Any] = getattr(layout, name)
    assert dtype.fields is not None
    assert dtype.names is not None
    expected = []
    for field in dtype.names:
        kind, offset = dtype.fields[field][:2]
        expected.append((f"`{field}`", f"{kind.itemsize} bytes" if kind.kind == "S" else kind.name, offset))
    assert [(row["field"], row["type"], int(row["offset"])) for row in table(name)] == expected
    section = TEXT[TEXT.index(f"#### {name}\n") :]
    size = re.search(r"^Size: (\d+) bytes\.$", section, re.MULTILINE)
    assert size
    assert int(size[1]) == dtype.itemsize
    last = table(name)[-1]["meaning"]
    assert name == "FRAME" or last == f"of bytes 0 to {dtype.itemsize - 9}"


class Store:
    """One shard made by the sink's store: index 4 with three steps, a VOID index 9, index 2 with two steps."""

    def __init__(self, root: Path) -> None:
        self.root, self.shard = root, root / DEMO.name / "000000.h5"
        self.actions: dict[int, Any] = {}
        self.frames: dict[int, list[bytes]] = {}
        with ThreadPoolExecutor(1) as pool:
            self._store = StreamStore(self.shard.parent, DEMO, 1 << 20, dataset_uuid(root), Disk(), pool)
            self._put(4, 3)
            self._put(9, 0)
            self._store.commit()
            self._put(2, 2)
            self._store.close()

    def _put(self, index: int, steps: int) -> None:
        attempt = Attempt(index, DEMO.name, index, 1, "tester")
        action = np.arange(2 * steps, dtype="<f4").reshape(steps, 2) + index
        done = np.zeros(steps, "?")
        image = np.full((48, 64, 3), 10 * index, np.uint8)
        frames = [jpeg.encode(image + step) for step in range(steps)]
        attributes = json.dumps({"success": bool(steps)}).encode()
        columns = [action, done] if steps else []
        checksum = episode_checksum([np.array([frame_checksum(f) for f in frames], "<u4")], columns, attributes)
        outcome = Outcome.SUCCESS if steps else Outcome.VOID
        end = messages.End(
            session=0, index=index, outcome=outcome, steps=steps, seed=1, began_ns=1, ended_ns=2, checksum=checksum
        )
        if frames:
            self._store.append(attempt, frames)
        self._store.finish(attempt, end, [attributes, *(column.tobytes() for column in columns)])
        self.actions[index], self.frames[index] = action, frames


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("data"))


def test_the_example_reads_a_real_shard(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 2, "the second one is read in tests/pack"
    assert "protocol" not in examples[0]
    code = compile(examples[0], tmp_path / "example.py", "exec")
    for index in (4, 2):
        monkeypatch.setattr(sys, "argv", ["example.py", str(store.shard), str(index)])
        found: dict[str, Any] = {}
        exec(code, found)
        assert found["action"].dtype == np.float32
        assert np.array_equal(found["action"], store.actions[index])
        assert found["frames"] == {"front": store.frames[index]}
    monkeypatch.setattr(sys, "argv", ["example.py", str(store.shard), "5"])
    with pytest.raises(SystemExit, match="5 is not committed"):
        exec(code, {})


def test_datasets_attributes_and_properties_of_a_real_shard(store: Store) -> None:
    with h5py.File(store.shard, "r", locking=False) as file:
        described = table_with("attribute", "HDF5 type", "meaning")
        assert {row["attribute"] for row in described} == set(file.attrs)
        for row in described:
            kind = file.attrs.get_id(row["attribute"]).dtype
            assert kind.name == row["HDF5 type"] or (kind.kind == "S" and row["HDF5 type"] == "fixed-length string")
        assert file.attrs["stream_spec"].decode() == re.findall(r"```json\n(.*)\n```", TEXT)[0]
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        names = [row["dataset"] for row in table_with("dataset", "type", "shape", "content")]
        expanded = [n.replace("CAMERA", c.name) for c in DEMO.cameras for n in names if "CAMERA" in n]
        expanded += [n.replace("COLUMN", c.name) for c in DEMO.columns for n in names if "COLUMN" in n]
        assert set(found) == {n for n in names if "/" not in n} | set(expanded)
        offsets = {}
        for name in found:
            plan = file[name].id.get_create_plist()
            assert plan.get_layout() == h5py.h5d.CONTIGUOUS
            assert plan.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
            assert plan.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
            assert plan.get_nfilters() == 0
            assert plan.get_external_count() == 0
            offsets[name] = file[name].id.get_offset()
            large = file[name].size * file[name].dtype.itemsize >= 4096
            assert offsets[name] % 4096 == 0 or not large
        assert max(offsets, key=lambda name: offsets[name]) == "blob"
        assert file["steps/done"].id.get_type().get_class() == h5py.h5t.ENUM
        for name in ("episodes", "documents", "seal", "steps/images/front"):
            kind = file[name].dtype
            reference = {"episodes": "EPISODE", "documents": "DOCUMENT", "seal": "SEAL"}.get(name, "FRAME")
            assert kind == getattr(layout, reference)
        assert file["episodes"].shape[0] >= 256
        assert file["documents"].shape[0] == 256
    assert store.shard.read_bytes()[:9] == b"\x89HDF\r\n\x1a\n\0", "superblock version 0, the oldest"


def test_rows_say_what_the_document_says(store: Store) -> None:
    """Group numbers, tails and first steps of the three episodes, row by row."""
    with h5py.File(store.shard, "r", locking=False) as file:
        rows = file["episodes"][:4]
    assert rows["index"][:3].tolist() == [4, 9, 2]
    assert rows["group_first"][:3].tolist() == [0, 0, 2]
    assert rows["first_step"][:3].tolist() == [0, 3, 3]
    assert rows["blob_end"][2] == rows["attributes_offset"][2] + rows["attributes_size"][2]
    assert not any(rows[3].tobytes()), "a row never written is zero"
    assert rows[3]["row_checksum"] != row_checksum(rows[3].tobytes()[:-8], 3), "and not sound"


def test_files_of_the_directory_have_the_names_of_the_document(store: Store) -> None:
    identity = json.loads((store.root / "dataset.json").read_text())
    named = re.search(r"One JSON object: `format_version` \((\d+)\), `(\w+)` .*?, `(\w+)`\.", TEXT)
    assert named
    assert {"format_version": int(named[1]), named[2]: identity["uuid"], named[3]: identity["created_ns"]} == identity
    lock = DirectoryLock(store.root)
    assert set(json.loads((store.root / "sink.lock").read_text())) == {"host", "pid", "endpoint"}
    lock.release()
    assert f"`NNNNNN.h5{shard_file.PREPARING}`" in TEXT
    assert f"`{layout.SHARD_PATTERN.replace('(', '').replace(')', '')}`" in TEXT


def test_every_field_of_a_line_of_flags_is_described() -> None:
    described = _without_meaning(table("FlagRecord"))
    found = _rows(flag_lines.FlagRecord, leave_out=set())
    assert (found[-1]["field"], found[-1]["default"]) == ("`checksum`", f"'{'0' * 16}'"), "filled in by `encode`"
    assert described == [*found[:-1], {**found[-1], "default": "required"}]
    section = TEXT[TEXT.index("### 3.14") : TEXT.index("### 3.15")]
    assert {unquoted(row["word"]) for row in table_with("word", "after it")} == set(get_args(flag_lines.What))
    assert f"`{flag_lines.FLAGS_NAME}`" in section
    assert f"the {flag_lines._SECTOR}-byte sectors" in section
    assert all(category in section for category in flag_lines._REFUSED)


# --- test vectors ------------------------------------------------------------------------------------------------


def test_vectors_of_checksums() -> None:
    rows = table_with("function", "seed", "input", "output")
    functions = {row["function"] for row in rows}
    assert functions == {
        "frame_checksum", "episode_checksum", "row_checksum", "rows_checksum", "metadata_checksum", "flag_checksum"
    }  # fmt: skip
    assert functions == {row["name"] for row in table_with("name", "is")}
    for row in rows:
        parts = [] if row["input"] == "(none)" else [bytes.fromhex(part) for part in row["input"].split()]
        match row["function"]:
            case "frame_checksum":
                found = f"{frame_checksum(b''.join(parts)):08x}"
            case "row_checksum":
                found = f"{row_checksum(b''.join(parts), int(row['seed'])):016x}"
            case "rows_checksum":
                found = f"{rows_checksum(b''.join(parts)):016x}"
            case "flag_checksum":
                place, end = parts[0].decode().split("/", 1)
                assert end.endswith("\n")
                found = f"{flag_checksum(parts[1], int(row['seed']), place, end[:-1]):016x}"
            case "metadata_checksum":
                numbers = np.frombuffer(parts[2], "<i8").tolist()
                places = list(zip(numbers[4::2], numbers[5::2], strict=True))
                found = f"{metadata_checksum(parts[0], parts[1], numbers[:4], places):016x}"
            case _:
                *checksums, attributes = parts
                frames = [np.frombuffer(part, "<u4") for part in checksums[:1]]
                found = f"{episode_checksum(frames, checksums[1:], attributes):016x}"
        assert found == row["output"], row


def test_vectors_fit_the_words_below_them() -> None:
    _, first, second, episode, _, row5, *seals, rows, metadata, flag = table_with("function", "seed", "input", "output")
    action = np.array([[0, 1], [-0.5, 2]], "<f4").tobytes()
    frames = np.array([int(line["output"], 16) for line in (first, second)], "<u4").tobytes()
    assert episode["input"].split() == [frames.hex(), action.hex(), "0001", b'{"success":true}'.hex()]
    row = np.zeros((), layout.EPISODE)
    values = {"index": 7, "outcome": 1, "steps": 2, "first_step": 300, "attributes_offset": 9, "attributes_size": 16,
              "frames_bytes": 9, "blob_end": 25, "group_first": 4, "seed": 42, "began_ns": 1_700_000_000_000_000_000,
              "ended_ns": 1_700_000_001_000_000_000, "committed_ns": 1_700_000_002_000_000_000, "producer": b"demo",
              "data_checksum": int(episode["output"], 16)}  # fmt: skip
    for name, value in values.items():
        row[name] = value
    assert row5["input"] == row.tobytes()[:-8].hex()
    seal = np.frombuffer(bytes.fromhex(seals[0]["input"]) + bytes(8), layout.SEAL)[0]
    assert (seal["episodes"], seal["steps"], seal["blob"]) == (6, 302, 25)
    assert seals[0]["input"] == seals[1]["input"]
    assert rows["input"] == row5["input"] + int(row5["output"], 16).to_bytes(8, "little").hex()
    assert seal["rows_checksum"] == int(rows["output"], 16)
    spec = StreamSpec.from_json(bytes.fromhex(metadata["input"].split()[0]))
    assert spec == DEMO
    assert len(metadata["input"].split()[2]) == 16 * (4 + 2 * len(layout.dataset_names(spec)))
    (line,) = re.findall(r"^\{\"sequence\".*\n", TEXT, re.MULTILINE)
    place = flag_lines.Place(bytes.fromhex(metadata["input"].split()[1]).decode(), spec.name)
    assert bytes.fromhex(flag["input"].split()[1]) == line.encode()[:-32]
    (record,) = flag_lines.scan(line.encode(), place, sequence=3).records
    assert record == msgspec.json.decode(line, type=flag_lines.FlagRecord)
    assert flag_lines.encode(record, place) == line.encode()


def test_vectors_of_headers() -> None:
    expected = {
        "ping": messages.Ping(session=7, seq=3, state="idle"),
        "begin": messages.Begin(session=7, seq=4, index=7),
        "frames": messages.Frames(session=7, seq=5, index=7, first=0, count=2, sizes=(7, 9)),
    }
    rows = table_with("message", "bytes")
    assert {row["message"].split("`")[1] for row in rows} == set(expected)
    for row in rows:
        data = bytes.fromhex(row["bytes"])
        message = expected[row["message"].split("`")[1]]
        assert messages.decode_from_producer(data) == message
        assert messages.encode(message) == data
        shuffled = dict(reversed(msgpack.unpackb(data).items()))
        assert messages.decode_from_producer(msgpack.packb(shuffled)) == message, "the order of keys does not matter"
        for word in re.findall(r"(\w+) (?:`(\w+)`|(\d+))", row["message"].split(",", 1)[1]):
            assert str(msgpack.unpackb(data)[word[0]]) == (word[1] or word[2])
