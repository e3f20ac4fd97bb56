"""`--where`: a condition on an episode, read by Python's parser and never run by Python.

    condition  = comparison | name | not condition | condition and condition | condition or condition
    comparison = value (== != < <= > >= in, not in) value …
    value      = name | 'text' | number | True | False | None | a list of such constants

Names are those of COLUMNS, else attributes; `policy.name` is the member `name` of the attribute `policy`. `success` and
`failure` beside `outcome` are its values. An attribute that an episode does not have makes its comparison false.
"""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

from protocol.errors import ConfigurationError
from protocol.shard_view import EpisodeView

# name → of an episode
COLUMNS: dict[str, Callable[[EpisodeView], Any]] = {
    "index": lambda episode: episode.index,
    "outcome": lambda episode: episode.outcome.name.lower(),
    "steps": lambda episode: episode.steps,
    "seed": lambda episode: int(episode.row["seed"]),
    "producer": lambda episode: episode.producer,
    "seconds": lambda episode: (int(episode.row["ended_ns"]) - int(episode.row["began_ns"])) / 1e9,
}
_OUTCOMES = ("success", "failure")
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, many: value in many,
    ast.NotIn: lambda value, many: value not in many,
}
_MAX_LENGTH = 4096
# Nobody writes conditions so deep; Python's parser and this one are recursive.
_MAX_DEPTH = 64
_ALLOWED = "comparisons, and, or, not, names, numbers and 'texts'"


class _Missing:
    """The value of an attribute that an episode does not have."""


_MISSING = _Missing()
Value = Callable[[EpisodeView, Mapping[str, Any]], Any]


class Condition:
    """A condition that was understood."""

    def __init__(self, text: str) -> None:
        """Raises ConfigurationError that shows the place with a caret."""
        self._text = text.replace("\n", " ").strip()
        self._attributes: set[str] = set()
        self._known: set[str] = set()
        if len(text) > _MAX_LENGTH:
            raise ConfigurationError(f"--where: {len(text)} characters; expected at most {_MAX_LENGTH}")
        try:
            body = ast.parse(self._text, mode="eval").body
        except SyntaxError as error:
            raise self._wrong(f"{error.msg}; expected {_ALLOWED}", (error.offset or len(self._text) + 1) - 1) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ConfigurationError(f"--where: this cannot be read: {error}; expected {_ALLOWED}") from None
        self._holds = self._condition(body, 0)

    def holds(self, episode: EpisodeView) -> bool:
        """It holds for this episode. Raises ConfigurationError if values cannot be compared."""
        attributes = episode.attributes() if self._attributes else {}
        self._known.update(attributes)
        return bool(self._holds(episode, attributes))

    def check_names(self) -> None:
        """Raise ConfigurationError for a name that none of the episodes had that were looked at, if there were any."""
        for path in sorted(self._attributes if self._known else ()):
            first = path.split(".")[0]
            if first not in self._known:
                names = sorted({*COLUMNS, *self._known})
                near = difflib.get_close_matches(first, names, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
                raise self._wrong(f"no episode has {first!r}; {hint}", max(self._text.find(first), 0))

    # --- from the syntax tree to functions --------------------------------------------------------------------------

    def _condition(self, node: ast.expr, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise self._wrong(f"nested more than {_MAX_DEPTH} deep", node)
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                parts = [self._condition(each, depth + 1) for each in values]
                return lambda *at: all(part(*at) for part in parts)
            case ast.BoolOp(values=values):
                parts = [self._condition(each, depth + 1) for each in values]
                return lambda *at: any(part(*at) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._condition(operand, depth + 1)
                return lambda *at: not inner(*at)
            case ast.Compare():
                return self._comparison(node)
            case ast.Constant(value=bool() as constant):
                return lambda *_: constant
            case ast.Name() | ast.Attribute():
                return self._flag(node)
        raise self._wrong(f"expected {_ALLOWED}", node)

    def _flag(self, node: ast.expr) -> Value:
        """A name that stands alone must be true or false."""
        name, value = self._name(node), self._value(node, outcome=False)

        def holds(*at: Any) -> bool:
            found = value(*at)
            if found is _MISSING or isinstance(found, bool):
                return found is True
            raise self._wrong(f"{name} is {found!r} and neither true nor false; compare it with something", node)

        return holds

    def _comparison(self, node: ast.Compare) -> Value:
        sides = [node.left, *node.comparators]
        outcome = any(isinstance(side, ast.Name) and side.id == "outcome" for side in sides)
        values = [self._value(side, outcome) for side in sides]
        compare = []
        for kind in node.ops:
            if type(kind) not in _COMPARE:
                raise self._wrong("expected == != < <= > >= in or not in", node)
            compare.append(_COMPARE[type(kind)])

        def holds(*at: Any) -> bool:
            found = [value(*at) for value in values]
            if any(each is _MISSING for each in found):
                return False
            try:
                return all(test(a, b) for test, a, b in zip(compare, found, found[1:], strict=False))
            except TypeError:
                what = " and ".join(repr(each) for each in found)
                raise self._wrong(f"{what} cannot be compared so", node) from None

        return holds

    def _value(self, node: ast.expr, outcome: bool) -> Value:
        """outcome: it is compared with the outcome, whose values may be written without quotes."""
        match node:
            case ast.Constant(value=str() | int() | float() | None as constant):
                return lambda *_: constant
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda *_: -number
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                many = [self._value(part, outcome) for part in parts]
                return lambda *at: [each(*at) for each in many]
            case ast.Name(id=word) if outcome and word in _OUTCOMES:
                return lambda *_: word
            case ast.Name(id=name) if name in COLUMNS:
                column = COLUMNS[name]
                return lambda episode, _: column(episode)
            case ast.Name(id=word) if word in _OUTCOMES:
                raise self._wrong(f"{word} is a value of outcome; write outcome == {word}", node)
            case ast.Name() | ast.Attribute():
                return self._attribute(self._name(node))
        raise self._wrong("expected a name, a number, a 'text' or a list of these", node)

    def _attribute(self, path: str) -> Value:
        self._attributes.add(path)
        parts = path.split(".")

        def value(_: EpisodeView, attributes: Mapping[str, Any]) -> Any:
            found: Any = attributes
            for part in parts:
                if not isinstance(found, Mapping) or part not in found:
                    return _MISSING
                found = found[part]
            return found

        return value

    def _name(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=inner, attr=name):
                return f"{self._name(inner)}.{name}"
        raise self._wrong("expected a name before the dot", node)

    def _wrong(self, why: str, where: ast.expr | int) -> ConfigurationError:
        if isinstance(where, ast.expr):  # its column counts bytes
            where = len(self._text.encode()[: where.col_offset].decode(errors="ignore"))
        return ConfigurationError(f"--where: {why}\n  {self._text}\n  {' ' * min(where, len(self._text))}^")
