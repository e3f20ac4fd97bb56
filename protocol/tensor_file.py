"""The safetensors format, as far as it must be checked before anything is built from a file.

Eight bytes: length of the header, little endian. The header: JSON, name → dtype, shape, where its bytes lie behind the
header. The tensors lie back to back in some order and fill the rest of the file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.errors import ModelError

MAX_HEADER_BYTES = 1 << 20
MAX_TENSORS = 4096
DTYPE_BYTES = {"F32": 4}
_METADATA = "__metadata__"
_Size = Annotated[int, Meta(ge=0, le=1 << 30)]


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor. data_offsets: first byte and the one after the last, behind the header."""

    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[tuple[_Size, ...], Meta(max_length=8)]
    data_offsets: tuple[_Size, _Size]


def check_tensors(path: Path, data: bytes, numbers: int) -> dict[str, TensorEntry]:
    """What the file holds: `numbers` float32 in all, without gaps. path: for the message. Raises ModelError."""
    if len(data) < 8:
        raise ModelError(f"{path}: expected a safetensors file, found {len(data)} bytes")
    size = int.from_bytes(data[:8], "little")
    if size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ModelError(f"{path}: expected a header of at most {MAX_HEADER_BYTES} bytes in the file, found {size}")
    entries = _header(path, data[8 : 8 + size])
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        _check_entry(path, name, entry, end)
        end = entry.data_offsets[1]
    if end != len(data) - 8 - size:
        raise ModelError(f"{path}: expected {end} bytes of tensors, found {len(data) - 8 - size}")
    found = sum(math.prod(entry.shape) for entry in entries.values())
    if found != numbers:
        raise ModelError(f"{path}: the manifest says {numbers} parameters, found {found}")
    return entries


def _header(path: Path, text: bytes) -> dict[str, TensorEntry]:
    try:
        raw: dict[str, msgspec.Raw] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        raw.pop(_METADATA, None)
        if len(raw) > MAX_TENSORS:
            raise ModelError(f"{path}: at most {MAX_TENSORS} tensors, found {len(raw)}")
        return {name: msgspec.json.decode(entry, type=TensorEntry) for name, entry in raw.items()}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected the header of a safetensors file, found: {error}") from error


def _check_entry(path: Path, name: str, entry: TensorEntry, begin: int) -> None:
    if entry.dtype not in DTYPE_BYTES:
        raise ModelError(f"{path}: tensor {name[:80]!r}: expected dtype F32, found {entry.dtype!r}")
    expected = (begin, begin + math.prod(entry.shape) * DTYPE_BYTES[entry.dtype])
    if entry.data_offsets != expected:
        raise ModelError(f"{path}: tensor {name[:80]!r}: expected bytes {expected}, found {entry.data_offsets}")
