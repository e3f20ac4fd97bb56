"""Strangers do not decide how much is logged."""

from __future__ import annotations

from serving.limited_log import PER_WINDOW, LimitedLog


class _Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *arguments: object) -> None:
        self.lines.append(text % arguments)


def test_warnings_about_strangers_are_few_and_plain() -> None:
    lines = _Lines()
    limited = LimitedLog(lines)  # type: ignore[arg-type]
    for number in range(1000):
        limited.warning("kind", "from %s", f"\x1b[31m\n{number}")
    limited.warning("other", "%s", "x" * 100_000)
    assert len(lines.lines) == PER_WINDOW + 1
    assert lines.lines[3] == "from \\x1b[31m\\n3"
    assert max(map(len, lines.lines)) <= 1000
    limited.flush(at_once=True)
    assert lines.lines[-1] == f"{1000 - PER_WINDOW} more of this kind were not logged one by one: kind"
