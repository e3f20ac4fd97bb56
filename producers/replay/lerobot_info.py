"""`meta/info.json` of a LeRobot dataset, checked: it says where files are, and it comes from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.errors import ConfigurationError, EpisodeError

INFO = "meta/info.json"
_VERSION = "v3"
_MAX_BYTES = 16 << 20
# The only fields that LeRobot's own templates have: a format string could ask for more, or for gigabytes.
_FIELD = re.compile(r"\{(chunk_index|file_index|video_key)(?::0(\d)d)?\}")


class Feature(msgspec.Struct, frozen=True):
    """dtype: of numpy, or `image`, `video`. shape: of one step."""

    dtype: str
    shape: tuple[Annotated[int, Meta(ge=1, le=1 << 20)], ...]
    names: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def sides(self) -> dict[str, int]:
        """height, width and channels of pictures; LeRobot stores both orders, and `names` says which."""
        try:
            names = msgspec.json.decode(self.names, type=list[str])
        except msgspec.ValidationError:
            names = ["height", "width", "channels"]
        return dict(zip(names, self.shape, strict=False))


class Info(msgspec.Struct, frozen=True):
    """The part of it that a reader needs; rate_hz is LeRobot's `fps`."""

    rate_hz: Annotated[float, Meta(gt=0)] = msgspec.field(name="fps")
    features: dict[str, Feature]
    data_path: str
    video_path: str | None = None

    def data(self, folder: Path, row: dict[str, object]) -> Path:
        """The table that an episode is in. row: of the table of episodes. Raises EpisodeError, KeyError."""
        return _place(folder, self.data_path, {part: row[f"data/{part}"] for part in ("chunk_index", "file_index")})

    def video(self, folder: Path, row: dict[str, object], key: str) -> Path:
        """The video that an episode of a camera is in. Raises EpisodeError, KeyError."""
        place = {part: row[f"videos/{key}/{part}"] for part in ("chunk_index", "file_index")}
        return _place(folder, self.video_path or "", {**place, "video_key": key})


class _Version(msgspec.Struct, frozen=True):
    codebase_version: str


def read_info(folder: Path) -> Info:
    """Raises ConfigurationError, OSError."""
    path = folder / INFO
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigurationError(f"{path}: {path.stat().st_size} bytes; expected at most {_MAX_BYTES}")
    data = path.read_bytes()
    try:
        version = msgspec.json.decode(data, type=_Version).codebase_version
        if version.startswith(_VERSION):
            return msgspec.json.decode(data, type=Info)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    raise ConfigurationError(f"{path}: expected codebase_version v3.0, found {version}; convert it first")


def _place(folder: Path, template: str, values: dict[str, object]) -> Path:
    def fill(match: re.Match[str]) -> str:
        value = values[match[1]]
        return str(value) if match[1] == "video_key" else str(int(str(value))).zfill(int(match[2] or 0))

    path = folder / _FIELD.sub(fill, template)
    if re.search("[{}]", _FIELD.sub("", template)) or not path.resolve().is_relative_to(folder.resolve()):
        raise EpisodeError(f"{folder / INFO}: {template!r} is no path below the dataset, as LeRobot writes them")
    return path
