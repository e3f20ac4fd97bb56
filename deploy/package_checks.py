"""Python, and the packages that Headrace's own metadata ask for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from deploy.check import Check, judge

DISTRIBUTION = "headrace"
MIN_PYTHON = (3, 11)
# Extras whose packages are looked at; the others are for developers.
EXTRAS = ("", "sink", "page", "producers", "inference", "trainer")
MUJOCO_LIMIT = "3.10"

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)\s*(?P<limits>[^;\[]*)(?:;.*extra\s*==\s*['\"](?P<extra>\w+)['\"])?"
)
_LIMIT = re.compile(r"(==|>=|<=|<|>|!=)\s*([0-9][0-9a-zA-Z.]*)")

Version = tuple[int, ...]


def python_check() -> Check:
    """The interpreter that runs this."""
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, MIN_PYTHON))
    return judge("Python", sys.version_info[:2] >= MIN_PYTHON, found, f"install Python {wanted} or later")


def package_checks() -> Iterator[Check]:
    """Every package of the extras that are in use here; an extra of which nothing is installed is only mentioned."""
    try:
        wanted = requirements(metadata.requires(DISTRIBUTION) or [])
    except metadata.PackageNotFoundError:
        yield Check("packages", "missing", f"{DISTRIBUTION} is not installed", "pip install -e '.[all]'")
        return
    core = {name for name, _ in wanted[""]}
    looked_at: set[str] = set()
    for extra in EXTRAS:
        packages = wanted.get(extra, [])
        own = [name for name, _ in packages if name not in core and name != "pyzmq"]
        if extra and not any(installed_version(name) for name in own):
            advice = f"to use it here: pip install 'headrace[{extra}]'"
            yield Check(f"packages of {extra}", "warning", "not installed", advice)
            continue
        for name, limits in packages:
            if name in looked_at:
                continue
            looked_at.add(name)
            yield package_check(name, limits, installed_version(name))


def requirements(lines: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Extra → (package, version limits); "" for what is always needed. Read from the metadata of a distribution."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match and match["name"] != DISTRIBUTION:
            found.setdefault(match["extra"] or "", []).append((match["name"], match["limits"].strip()))
    return found


def package_check(name: str, limits: str, version: str | None) -> Check:
    """Does the installed version (None: it is not) fit the limits?"""
    install = f"pip install '{name}{limits}'"
    if version is None:
        return Check(name, "missing", "not installed", install)
    if name == "mujoco" and _parse(version) >= _parse(MUJOCO_LIMIT):
        why = f"robosuite 1.5.2 fails on mujoco {MUJOCO_LIMIT} and later (mj_fullM changed); {install}"
        return Check(name, "missing", version, why)
    if fits(version, limits):
        return Check(name, "ok", version)
    exact = limits.startswith("==")
    return Check(name, "warning" if exact else "missing", version, f"expected {limits}; {install}")


def fits(version: str, limits: str) -> bool:
    """Every limit holds, e.g. `>=3.5,<4`. Numbers only: a release candidate counts as its release."""
    here = _parse(version)
    for operator, limit in _LIMIT.findall(limits):
        there = _parse(limit)
        holds = {
            "==": here == there,
            "!=": here != there,
            ">=": here >= there,
            "<=": here <= there,
            "<": here < there,
            ">": here > there,
        }
        if not holds[operator]:
            return False
    return True


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parse(version: str) -> Version:
    """Without zeros at the end, so that 3.6 equals 3.6.0."""
    release = re.match(r"[0-9.]*", version)
    numbers = [int(part) for part in (release[0] if release else "").split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
