"""What libx264 is told so that equal frames give equal bytes, on every run and every machine."""

from __future__ import annotations

# With fewer than eight macroblocks in a row x264's macroblock tree takes memory into account that it never wrote: about
# one film in a hundred differs. It is switched off below this width [pixels].
_NARROW = 128


def h264_options(crf: int, width: int) -> dict[str, str]:
    """For frames of this width [pixels]. One thread: a process for each core works already."""
    made = {"crf": str(crf), "threads": "1"}
    return {**made, "x264-params": "mbtree=0"} if width < _NARROW else made
