"""What a cluster says about one program of a collection, in the words of every engine."""

from __future__ import annotations

from dataclasses import dataclass

# In these a task has ended for good, or is about to. LOST: it is gone and has left no word.
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT", "GONE", "LOST",
}  # fmt: skip


@dataclass(frozen=True)
class TaskState:
    """A job, or one task of an array. task: its number in the array, or None. state: as the engine calls it, or GONE.

    used, limit: times as the engine writes them. reason: why it waits or ended. exit_status: of its program;
    negative: the signal that ended it.
    """

    job: str
    task: int | None
    state: str
    restarts: int = 0
    used: str = ""
    limit: str = ""
    nodes: str = ""
    reason: str = ""
    exit_status: int = 0

    @property
    def live(self) -> bool:
        """It runs, or will."""
        return self.state not in ENDED
