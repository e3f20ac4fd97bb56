"""What is refused before MuJoCo sees a file of unknown origin: files that read others, or that grow without bound."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from producers.namo.errors import SceneError

MAX_BYTES = 16 << 20
MAX_TEXTURE_PIXELS = 64 << 20
MAX_ELEMENTS = 100_000
# They bring other files in, or make many out of one.
_REFUSED = frozenset(("include", "attach", "replicate", "composite", "flexcomp", "plugin", "extension"))
_FILE_ATTRIBUTE = re.compile(r"file|file(up|down|left|right|front|back)")


def read_limited(path: Path) -> str:
    """The text of a file of at most MAX_BYTES. Raises SceneError."""
    try:
        if not path.is_file():
            raise SceneError(f"{path}: expected an MJCF file, found {'no file' if path.exists() else 'nothing'} there")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SceneError(f"{path}: expected at most {MAX_BYTES >> 20} MiB, found {path.stat().st_size} bytes")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{path}: cannot read it as UTF-8 text: {error}") from error


def check_mjcf(text: str, source: str) -> None:
    """Raises SceneError for what is no self-contained MJCF file of a reasonable size."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise SceneError(f"{source}: expected plain MJCF, found a document type declaration; remove it")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SceneError(
            f"{source}: expected a whole XML file, found {len(text)} characters that are none ({error}); "
            "it may be half written: make or copy it again"
        ) from error
    if root.tag != "mujoco":
        raise SceneError(f"{source}: expected the root element <mujoco>, found <{root.tag}>")
    for number, element in enumerate(root.iter()):
        if number >= MAX_ELEMENTS:
            raise SceneError(f"{source}: expected at most {MAX_ELEMENTS} elements, found more")
        _check_element(element, source)


def _check_element(element: ElementTree.Element, source: str) -> None:
    if element.tag in _REFUSED:
        raise SceneError(f"{source}: expected one self-contained file, found <{element.tag}>; write its content out")
    for name, value in element.attrib.items():
        if _FILE_ATTRIBUTE.fullmatch(name):
            raise SceneError(
                f"{source}: expected one self-contained file, found <{element.tag} {name}={value!r}>; "
                "a NAMO scene needs no meshes or pictures: remove it"
            )
    if element.tag == "size":
        raise SceneError(
            f"{source}: expected no <size>, which reserves memory; remove it, MuJoCo finds the sizes itself"
        )
    if element.tag == "texture" and _pixels(element) > MAX_TEXTURE_PIXELS:
        raise SceneError(f"{source}: expected textures of at most {MAX_TEXTURE_PIXELS} pixels, found {element.attrib}")


def _pixels(element: ElementTree.Element) -> int:
    try:
        width, height = (int(element.get(side, "0")) for side in ("width", "height"))
    except ValueError:
        return 0  # MuJoCo will say what is wrong with it
    return max(width, 0) * max(height, 0)
