"""The compiled model as a document that is equal on every machine."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

# MuJoCo writes the type of a mesh file when it read the file, and leaves it out when it had it in its cache. The name's
# ending says it too.
_CONTENT_TYPE = re.compile(r' content_type="[^"]*"')
_FILE_ATTRIBUTE = re.compile(r'(?<=\bfile=")[^"]*(?=")')


def save_model_xml(model: Any) -> str:
    """MJCF of a `mujoco.MjModel` that was compiled last in this process, with portable asset paths.

    MuJoCo keeps the parsed XML of the last compiled model only, so call this before anything compiles another one.
    """
    import mujoco  # not above: it reads the environment when imported; see library.py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        mujoco.mj_saveLastXML(str(path), model)
        return relative_assets(_CONTENT_TYPE.sub("", path.read_text(encoding="utf-8")))


def relative_assets(xml: str) -> str:
    """Asset paths cut to begin at their last `robosuite` component: `robosuite/models/assets/…`.

    robosuite's own `edit_model_xml` (and robomimic through it) finds assets from that component on.
    """

    def cut(match: re.Match[str]) -> str:
        parts = match.group().split("/")
        if "robosuite" not in parts:
            return match.group()
        last = len(parts) - 1 - parts[::-1].index("robosuite")
        return "/".join(parts[last:])

    return _FILE_ATTRIBUTE.sub(cut, xml)
