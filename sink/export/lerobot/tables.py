"""The rows of episodes in parquet: one row a step, one row group an episode."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sink.export.lerobot.features import DEFAULTS, Feature

_COMPRESSION = "snappy"
_PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
# The file of a part, and what only the whole knows: columns of one number a step.
Part = tuple[Path, Mapping[str, NDArray[Any]]]
_NESTED = {2: "Array2D", 3: "Array3D", 4: "Array4D"}


def write_part(path: Path, columns: Mapping[str, NDArray[Any]], pictures: Mapping[str, list[bytes]]) -> None:
    """What an episode knows by itself. columns: key → [T, *shape]; pictures: key → T JPEGs."""
    arrays = {key: to_arrow(values) for key, values in columns.items()}
    for key, frames in pictures.items():
        nothing = pa.nulls(len(frames), pa.string())
        arrays[key] = pa.StructArray.from_arrays([pa.array(frames, pa.binary()), nothing], fields=list(_PICTURE))
    pq.write_table(pa.table(arrays), path, compression=_COMPRESSION)


def join_parts(path: Path, parts: Sequence[Part], about: Mapping[str, Any]) -> None:
    """One file of several parts. about: what `datasets` of Hugging Face keeps in the schema."""
    writer = None
    try:
        for part, added in parts:
            table = pq.read_table(part)
            for key, values in added.items():
                table = table.append_column(key, pa.array(values))
            if writer is None:
                schema = table.schema.with_metadata({b"huggingface": json.dumps(about).encode()})
                writer = pq.ParquetWriter(path, schema, compression=_COMPRESSION)
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=len(table))
    finally:
        if writer is not None:
            writer.close()


def metadata(features: Iterable[Feature], pictures: Iterable[str]) -> dict[str, Any]:
    """What `datasets` wants to know of each column."""
    types: dict[str, Any] = {feature.key: _type(feature) for feature in features}
    types |= {key: {"_type": "Image"} for key in pictures}
    types |= {key: _value(dtype) for key, dtype in DEFAULTS.items()}
    return {"info": {"features": types}}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table from its rows; arrays become nested lists."""
    lists = {key: [_plain(row[key]) for row in rows] for key in rows[0]}
    pq.write_table(pa.table(lists), path, compression=_COMPRESSION)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The table of tasks, with the description that makes `task` the index of the table in pandas."""
    numbers = pa.array(range(len(tasks)), pa.int64())
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [_pandas("task_index", "int64", "int64"), _pandas("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": numbers, "task": pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({b"pandas": json.dumps(about).encode()}), path)


def to_arrow(values: NDArray[Any]) -> Any:
    """[T] or [T, 1] as numbers, [T, n] as lists of n, [T, a, b, …] as lists of lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1 or values.shape[1:] == (1,):
        return flat
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    for axis in range(values.ndim - 1, 0, -1):
        count = int(np.prod(values.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * values.shape[axis]
        flat = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return flat


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _type(feature: Feature) -> dict[str, Any]:
    if feature.shape == (1,):
        return _value(feature.dtype)
    if len(feature.shape) == 1:
        return {"feature": _value(feature.dtype), "length": feature.shape[0], "_type": "List"}
    return {"shape": list(feature.shape), "dtype": feature.dtype, "_type": _NESTED[len(feature.shape)]}


def _pandas(name: str, kind: str, numpy_type: str) -> dict[str, Any]:
    return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
