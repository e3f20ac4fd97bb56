"""Sets on disk: written, verified when loaded, never replaced by accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from deploy.main import main
from producers.namo.manifest import MANIFEST, UNFINISHED
from producers.namo.scene_set import write_set
from producers.namo.scenes import ALL, GeneratedScenes, LoadedScene, SceneError, open_scenes
from protocol.errors import ConfigurationError

ORIGINAL = (Path(__file__).parent / "data" / "env_config_1a.xml").read_text()


def _scenes(count: int, seed: int = 3) -> list[LoadedScene]:
    source = GeneratedScenes(ALL, "easy", seed, count)
    return [source.load(index) for index in range(count)]


def _files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_a_set_gives_the_scenes_that_were_generated(tmp_path: Path) -> None:
    write_set(tmp_path, _scenes(5), overwrite=False)
    source = open_scenes(tmp_path)
    assert len(source) == 5
    for index, made in enumerate(_scenes(5)):
        loaded = source.load(index)
        assert (loaded.scene, loaded.sha256, loaded.meta) == (made.scene, made.sha256, made.meta)
        assert loaded.scene.name == made.scene.name
        assert Path(loaded.source).is_file()
    assert not (tmp_path / UNFINISHED).exists()


def test_a_run_that_was_cut_off_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write_set(whole, _scenes(4), overwrite=False)

    class CutOffError(Exception):
        pass

    def stop(written: int) -> None:
        if written == 2:
            raise CutOffError

    with pytest.raises(CutOffError):
        write_set(cut, _scenes(4), False, stop)
    with pytest.raises(SceneError, match="the set was not finished; run the same"):
        open_scenes(cut)
    write_set(cut, _scenes(4), overwrite=False)
    assert _files(cut) == _files(whole)


def test_a_set_may_grow_but_not_shrink_or_change_unless_asked(tmp_path: Path) -> None:
    write_set(tmp_path, _scenes(3), overwrite=False)
    write_set(tmp_path, _scenes(5), overwrite=False)
    before = _files(tmp_path)
    for other, said in ((_scenes(4), "it has 5 scenes"), (_scenes(6, seed=4), "two_rooms/easy/0 of seed 3")):
        with pytest.raises(ConfigurationError, match=f"found another set: .*{said}.* or give --overwrite"):
            write_set(tmp_path, other, overwrite=False)
        assert _files(tmp_path) == before
    write_set(tmp_path, _scenes(2, seed=4), overwrite=True)
    assert len(open_scenes(tmp_path)) == 2
    assert len(_files(tmp_path)) == 3, "files of the old set are gone"


def test_files_of_somebody_else_are_not_mixed_with_a_set(tmp_path: Path) -> None:
    (tmp_path / "env.xml").write_text(ORIGINAL)
    with pytest.raises(ConfigurationError, match=r"another set: \*\.xml files without manifest\.json"):
        write_set(tmp_path, _scenes(1), overwrite=False)
    assert list(_files(tmp_path)) == ["env.xml"]


def test_a_broken_file_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    write_set(tmp_path, _scenes(4), overwrite=False)
    source = open_scenes(tmp_path)
    half, gone, changed = (Path(source.load(index).source) for index in range(3))
    half.write_bytes(half.read_bytes()[:500])
    gone.unlink()
    changed.write_text(changed.read_text().replace('mass="0.1"', 'mass="0.2"'))
    for index, said in enumerate(
        ("expected SHA-256 .* copy the file again", "found nothing there", "expected SHA-256")
    ):
        with pytest.raises(SceneError, match=said) as error:
            source.load(index)
        assert "env_config_000000.xml" in str(error.value)
    assert source.load(3).scene == _scenes(4)[3].scene


@pytest.mark.parametrize("change", [{"file": "../secret.xml"}, {"file": "/etc/passwd"}, {"file": "."}])
def test_a_manifest_cannot_point_out_of_its_directory(tmp_path: Path, change: dict[str, str]) -> None:
    write_set(tmp_path, _scenes(1), overwrite=False)
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    manifest["scenes"][0] |= change
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(SceneError, match="expected files inside this directory"):
        open_scenes(tmp_path).load(0)


@pytest.mark.parametrize("content", ["", "{}", '{"format": "headrace.namo.scenes/9", "scenes": []}', "\x00"])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(SceneError, match=r"manifest\.json: expected a manifest of format headrace\.namo\.scenes/1"):
        open_scenes(tmp_path)


def test_the_originals_files_are_taken_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in (
        "set2/benchmark_1/a.xml",
        "set1/benchmark_2/b.xml",
        "set1/benchmark_1/z.xml",
        "set1/benchmark_1/c.xml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ORIGINAL)
    (tmp_path / "set1/benchmark_1/c.xml").write_text(ORIGINAL[:900])
    source = open_scenes(tmp_path)
    assert len(source) == 4
    with pytest.raises(SceneError, match=r"c\.xml: expected a whole XML file"):
        source.load(0)
    names = [source.load(index).scene.name for index in (1, 2, 3)]
    assert names == ["set1/benchmark_1/z", "set1/benchmark_2/b", "set2/benchmark_1/a"]
    loaded = source.load(1)
    assert loaded.xml == ORIGINAL
    assert loaded.meta.n_movables == 2
    with pytest.raises(SceneError, match=r"environment index 4: expected 0 ≤ index < 4"):
        source.load(4)


def test_a_directory_without_scenes_is_named(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"expected manifest\.json or \*\.xml files"):
        open_scenes(tmp_path)
    with pytest.raises(SceneError, match="expected a directory of scenes, found nothing"):
        open_scenes(tmp_path / "absent")


def test_the_command_writes_a_set_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "set", tmp_path / "set.png"
    words = ["namo", "scenes", "--out", str(out), "--template", "maze", "--difficulty", "easy", "--count", "3"]
    assert main([*words, "--seed", "9", "--picture", str(picture), "--pictured", "2"]) == 0
    assert "3 scenes" in capsys.readouterr().out
    assert open_scenes(out).load(2).scene == GeneratedScenes("maze", "easy", 9).load(2).scene
    with Image.open(picture) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert {(232, 186, 92), (74, 78, 86), (58, 108, 190)} <= colours, "boxes, walls and the robot are drawn"
    assert main([*words, "--seed", "10"]) == 1
    assert "found another set" in capsys.readouterr().err
    assert main(["namo", "scenery"]) == 1
    assert "expected a command, one of scenes; found 'scenery'" in capsys.readouterr().err
