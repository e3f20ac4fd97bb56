"""The Protobuf messages of an MCAP export, and their descriptions, which every file brings along."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from protocol.errors import DatasetError

COMPRESSED_IMAGE = "foxglove.CompressedImage"
_FIELD = descriptor_pb2.FieldDescriptorProto
_TIMESTAMP = "google/protobuf/timestamp.proto"
_SECOND = 1_000_000_000
# One row of a column, flat: kind of its dtype → name of the message and type of its values.
_VALUES: dict[str, tuple[str, int]] = {
    "f4": ("headrace.Floats", _FIELD.TYPE_FLOAT),
    "f8": ("headrace.Doubles", _FIELD.TYPE_DOUBLE),
    "i": ("headrace.Integers", _FIELD.TYPE_INT64),
    "u": ("headrace.Naturals", _FIELD.TYPE_UINT64),
    "b": ("headrace.Booleans", _FIELD.TYPE_BOOL),
}


def of_values(dtype: np.dtype[Any]) -> str:
    """The name of the message that holds a row of this dtype without loss."""
    kind = f"f{dtype.itemsize}" if dtype.kind == "f" else dtype.kind
    if kind not in _VALUES:
        raise DatasetError(f"a column of dtype {dtype} cannot be written; expected one of {', '.join(_VALUES)}")
    return _VALUES[kind][0]


def file_descriptor_set(name: str) -> bytes:
    """The description of a message and of what it uses, as MCAP keeps it."""
    made = descriptor_pb2.FileDescriptorSet(file=[_timestamp_file(), _file(name)])
    return bytes(made.SerializeToString())


def serialize(name: str, time_ns: int, **fields: Any) -> bytes:
    """A message with its timestamp."""
    seconds, nanoseconds = divmod(time_ns, _SECOND)
    made = _message(name)(timestamp={"seconds": seconds, "nanos": nanoseconds}, **fields)
    return bytes(made.SerializeToString())


@cache
def _message(name: str) -> Any:
    # A pool of its own: other packages may know Foxglove's messages too.
    pool = descriptor_pool.DescriptorPool()
    for file in (_timestamp_file(), _file(name)):
        pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _timestamp_file() -> Any:
    found = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(found)
    return found


def _file(name: str) -> Any:
    """The file that has one message."""
    package, message = name.split(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}/{message}.proto", package=package, syntax="proto3", dependency=[_TIMESTAMP]
    )
    made = file.message_type.add(name=message)
    made.field.add(
        name="timestamp",
        number=1,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=_FIELD.LABEL_OPTIONAL,
    )
    if name == COMPRESSED_IMAGE:
        # The numbers are Foxglove's.
        for number, (field, kind) in enumerate(
            (("data", _FIELD.TYPE_BYTES), ("format", _FIELD.TYPE_STRING), ("frame_id", _FIELD.TYPE_STRING)), 2
        ):
            made.field.add(name=field, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    else:
        kind = dict(_VALUES.values())[name]
        made.field.add(name="values", number=2, type=kind, label=_FIELD.LABEL_REPEATED)
    return file
