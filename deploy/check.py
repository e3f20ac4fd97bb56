"""One line of `headrace doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do about it.

    state: `missing` means that something which is needed does not work; `warning`, that something could be better.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def judge(name: str, good: bool, found: str, advice: str, otherwise: State = "missing") -> Check:
    """`ok` without advice, or `otherwise` with it."""
    return Check(name, "ok", found) if good else Check(name, otherwise, found, advice)
