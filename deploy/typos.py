"""A key that a file must not have, and the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from protocol.errors import ConfigurationError

# How alike two keys must be, from 0 to 1, before one is proposed for the other.
_ALIKE = 0.6


def check_keys(found: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Raise ConfigurationError for the first key, at any depth, that `kind` does not know; say which one is nearest."""
    root = inspect.type_info(kind)
    for section, key in _unknown(found, root, ""):
        what = f"{_title(section)} has the unknown key `{key}`" if section else f"there is no section or key `{key}`"
        raise ConfigurationError(f"{what}; {_advice(section, key, root)}")


def _advice(section: str, key: str, root: inspect.Type) -> str:
    known = list(_known(root, ""))
    here = [name for place, name in known if place == section]
    if near := difflib.get_close_matches(key, here, 1, _ALIKE):
        return f"did you mean `{near[0]}`" + (f" in {_title(section)}?" if section else "?")
    elsewhere = [name for _, name in known]
    if near := difflib.get_close_matches(key, elsewhere, 1, _ALIKE):
        places = sorted({_title(place) if place else "the top of the file" for place, name in known if name == near[0]})
        return f"did you mean `{near[0]}` in {' or '.join(places)}?"
    return f"expected one of: {', '.join(here)}"


def _title(section: str) -> str:
    return f"[{section}]"


def _tables(kind: inspect.Type) -> inspect.StructType | None:
    """The table of a field: its own, that of an optional one, or that of a list's items."""
    if isinstance(kind, inspect.StructType):
        return kind
    if isinstance(kind, inspect.Metadata):
        return _tables(kind.type)
    if isinstance(kind, inspect.UnionType):
        return next((table for each in kind.types if (table := _tables(each))), None)
    return _tables(kind.item_type) if isinstance(kind, inspect.VarTupleType) else None


def _unknown(found: Any, kind: inspect.Type, section: str) -> Iterator[tuple[str, str]]:
    table = _tables(kind)
    if table is None or not isinstance(found, dict | list):
        return
    for entry in found if isinstance(found, list) else [found]:
        fields = {field.encode_name: field.type for field in table.fields}
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if key not in fields:
                yield section, key
            else:
                yield from _unknown(value, fields[key], f"{section}.{key}".lstrip("."))


def _known(kind: inspect.Type, section: str) -> Iterator[tuple[str, str]]:
    table = _tables(kind)
    for field in table.fields if table is not None else ():
        yield section, field.encode_name
        yield from _known(field.type, f"{section}.{field.encode_name}".lstrip("."))
