"""The plan of a stored search as a picture or an animation: scene, pushes, what can be reached before and after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from protocol.errors import ConfigurationError
from protocol.namo.episodes import CONTACTS, PUSH_CODES, attempts_of, scene_of, state_after, state_before
from protocol.namo.path import find_path
from protocol.namo.picture import Pose, Push, View, draw, size
from protocol.namo.scene import Scene, State
from protocol.namo.wavefront import Reach, Wavefront
from protocol.shard_view import EpisodeView

# All lengths in pixels.
PANEL, GAP, MARGIN, HEADER, CAPTION = 420, 18, 26, 84, 84
MOST_COLUMNS = 4
GIF_PANEL = 480
PAPER, INK, FAINT = (253, 252, 249), (36, 38, 44), (112, 116, 126)
GOOD, BAD = (22, 128, 76), (188, 62, 40)
_MOST_TRACES = 150
# Pictures of an animation, and how long each is shown [ms].
_DRIVE, _PUSH = 12, 14
_MOVING_MS, _HOLD_MS, _END_MS = 60, 900, 2400
FILE_TYPES = (".png", ".gif")


@dataclass(frozen=True)
class StoredPlan:
    """What a search left behind. states: before each push, and at the end; pushes: of the plan."""

    title: str
    subtitle: str
    solved: bool
    scene: Scene
    states: tuple[State, ...]
    pushes: tuple[Push, ...]
    captions: tuple[tuple[str, str, str], ...]
    traces: tuple[tuple[int, Pose], ...]

    @staticmethod
    def of(episode: EpisodeView) -> StoredPlan:
        """Read a stored search. Raises DatasetError."""
        attributes = episode.attributes()
        scene = scene_of(attributes)
        steps = range(episode.steps)
        states = [state_before(episode, scene, t) for t in steps]
        states.append(state_after(episode, scene, episode.steps - 1) if episode.steps else State.initial(scene))
        objects = episode.column("object").tolist() if episode.steps else []
        targets = episode.column("target").tolist() if episode.steps else []
        pushes = tuple(Push(place, tuple(target)) for place, target in zip(objects, targets, strict=True))
        solved = bool(attributes["record"]["solution_found"])
        return StoredPlan(
            title=f"{episode.shard.spec.name} · index {episode.index}",
            subtitle=_subtitle(attributes),
            solved=solved,
            scene=scene,
            states=tuple(states),
            pushes=pushes,
            captions=(*(_push_caption(episode, scene, t) for t in steps), _last_caption(attributes, episode.steps)),
            traces=() if solved else _traces(attributes),
        )


def write(plan: StoredPlan, out: Path) -> Path:
    """Write a PNG, or a GIF that moves, as the name says. Raises ConfigurationError."""
    kind = out.suffix.lower()
    if kind not in FILE_TYPES:
        raise ConfigurationError(f"--out {out}: expected a name that ends in .png or .gif")
    try:
        if kind == ".png":
            picture(plan).save(out, optimize=True)
        else:
            _save_gif(plan, out)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: cannot write the picture: {error}") from error
    return out


# --- the picture ------------------------------------------------------------------------------------------------


def picture(plan: StoredPlan) -> Image.Image:
    """One panel for each push and one for the end."""
    reaches = _reaches(plan)
    columns = min(len(plan.states), MOST_COLUMNS)
    rows = math.ceil(len(plan.states) / columns)
    across, up = size(plan.scene, PANEL)
    width = max(2 * MARGIN + columns * across + (columns - 1) * GAP, 2 * MARGIN + 2 * PANEL)
    page = Image.new("RGB", (width, HEADER + rows * (up + CAPTION)), PAPER)
    pen = ImageDraw.Draw(page)
    _head(pen, plan, width)
    for number, (state, reach) in enumerate(zip(plan.states, reaches, strict=True)):
        left = MARGIN + number % columns * (across + GAP)
        top = HEADER + number // columns * (up + CAPTION)
        push = plan.pushes[number] if number < len(plan.pushes) else None
        view = View(plan.scene, state, reach, push, _way(plan, reach, number), plan.traces, labels=True)
        page.paste(draw(view, PANEL, square=False), (left, top))
        pen.rectangle((left, top, left + across - 1, top + up - 1), outline=(198, 194, 184))
        colour = INK if push is not None else GOOD if plan.solved else BAD
        first, *others = plan.captions[number]
        pen.text((left + 2, top + up + 8), _fitted(first, across, 17), colour, _font(17))
        for line, text in enumerate(others):
            pen.text((left + 2, top + up + 31 + 19 * line), _fitted(text, across, 13), FAINT, _font(13))
    return page


def _head(pen: ImageDraw.ImageDraw, plan: StoredPlan, width: int) -> None:
    pen.text((MARGIN, 20), plan.title, INK, _font(24))
    pen.text((MARGIN, 52), plan.subtitle, FAINT, _font(14))
    word, colour = ("solved", GOOD) if plan.solved else ("not solved", BAD)
    pen.text((width - MARGIN, 20), word, colour, _font(22), anchor="ra")


def _way(plan: StoredPlan, reach: Reach, number: int) -> Sequence[tuple[float, float]]:
    """Where the robot drives next: to the goal at the end, if it can. To a push it may drive several times."""
    if number < len(plan.pushes) or not plan.solved:
        return ()
    return _path(reach, plan.scene.goal)


def _path(reach: Reach, end: tuple[float, float]) -> list[tuple[float, float]]:
    start = (float(reach.state.robot[0]), float(reach.state.robot[1]))
    points = find_path(reach, start, end)
    return [] if points is None else [(float(x), float(y)) for x, y in points]


# --- the animation ----------------------------------------------------------------------------------------------


def _save_gif(plan: StoredPlan, out: Path) -> None:
    pictures, times = zip(*_frames(plan), strict=True)
    # One palette for all of them, from two that show every colour; few pixels count as much as many.
    both = Image.new("RGB", (pictures[0].width, 2 * pictures[0].height))
    both.paste(pictures[0])
    both.paste(pictures[-1], (0, pictures[0].height))
    palette = both.quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    indexed = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in pictures]
    indexed[0].save(
        out, save_all=True, append_images=indexed[1:], duration=list(times), loop=0, optimize=True, disposal=1
    )


def _frames(plan: StoredPlan) -> Iterator[tuple[Image.Image, int]]:
    """Pictures and how long each is shown [ms]. The way of a box between two states is drawn straight."""
    reaches = _reaches(plan)
    for number, push in enumerate(plan.pushes):
        before, after, reach = plan.states[number], plan.states[number + 1], reaches[number]
        caption = plan.captions[number][0]
        yield _moment(plan, View(plan.scene, before, reach, push, labels=True), caption), _HOLD_MS
        # The robot goes with the box at the end of a push; so it began as far before the box as it ended.
        contact = after.robot - (after.movables[push.place] - before.movables[push.place])[:2]
        way = _path(reach, (float(contact[0]), float(contact[1])))
        start = np.array(way[-1]) if way else before.robot
        for point in _along(way, _DRIVE):
            state = State(np.array(point), before.movables)
            yield _moment(plan, View(plan.scene, state, reach, push, labels=True), caption), _MOVING_MS
        for share in np.linspace(0, 1, _PUSH):
            state = State(start + share * (after.robot - start), _between(before, after, float(share)))
            yield _moment(plan, View(plan.scene, state, reach, push, labels=True), caption), _MOVING_MS
    final, reach, caption = plan.states[-1], reaches[-1], plan.captions[-1][0]
    yield _moment(plan, View(plan.scene, final, reach, traces=plan.traces, labels=True), caption), _HOLD_MS
    for point in _along(_path(reach, plan.scene.goal) if plan.solved else (), _DRIVE):
        view = View(plan.scene, State(np.array(point), final.movables), reach, labels=True)
        yield _moment(plan, view, caption), _MOVING_MS
    yield _moment(plan, view if plan.solved else View(plan.scene, final, reach, labels=True), caption), _END_MS


def _moment(plan: StoredPlan, view: View, caption: str) -> Image.Image:
    across, up = size(plan.scene, GIF_PANEL)
    page = Image.new("RGB", (across + 24, up + 52), PAPER)
    page.paste(draw(view, GIF_PANEL, square=False), (12, 12))
    colour = INK if view.push is not None else GOOD if plan.solved else BAD
    ImageDraw.Draw(page).text((14, up + 20), _fitted(caption, across, 17), colour, _font(17))
    return page


def _along(way: Sequence[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Points at equal distances along a way, the last one among them."""
    if len(way) < 2:
        return list(way)
    points = np.array(way)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, lengths[-1], count)
    return [(float(x), float(y)) for x, y in zip(*(np.interp(at, lengths, points[:, k]) for k in (0, 1)), strict=True)]


def _between(before: State, after: State, share: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    change = after.movables - before.movables
    change[:, 2] = (change[:, 2] + math.pi) % (2 * math.pi) - math.pi
    made: np.ndarray[Any, np.dtype[np.float64]] = before.movables + share * change
    return made


# --- words ------------------------------------------------------------------------------------------------------


def _subtitle(attributes: dict[str, Any]) -> str:
    record, options = attributes["record"], attributes["options"]
    parts = [
        attributes["scene"]["name"],
        f"{options['algorithm']} · {options['object_strategy']} · {options['goal_strategy']}",
        f"{record['nodes_expanded']} pushes tried",
        f"{record['search_time_ms'] / 1000:.2f} s",
    ]
    return " · ".join(parts)


def _push_caption(episode: EpisodeView, scene: Scene, step: int) -> tuple[str, str, str]:
    place, target = int(episode.column("object")[step]), episode.column("target")[step]
    bits, code = int(episode.column("contacts")[step]), PUSH_CODES[int(episode.column("code")[step])]
    touched = [name.replace("_", " ") for bit, name in enumerate(CONTACTS) if bits >> bit & 1 and name != "stuck"]
    primitives = int(episode.column("primitive_count")[step])
    return (
        f"push {step + 1} of {episode.steps}: box {place + 1}, {scene.movables[place].name}",
        f"to ({target[0]:.2f}, {target[1]:.2f}) m, {round(math.degrees(target[2]))}° · {code.replace('_', ' ')} · "
        f"{primitives} primitive{'s' if primitives != 1 else ''}",
        "contacts: " + ", ".join(touched) if touched else "no contacts",
    )


def _last_caption(attributes: dict[str, Any], steps: int) -> tuple[str, str, str]:
    reason = str(attributes["stop_reason"]).replace("_", " ")
    if attributes["record"]["solution_found"]:
        return "the goal can be reached", f"after {steps} push{'es' if steps != 1 else ''}" if steps else reason, ""
    return f"no plan: {reason}", "thin outlines: where boxes were pushed in vain", ""


def _traces(attributes: dict[str, Any]) -> tuple[tuple[int, Pose], ...]:
    table = attempts_of(attributes)
    return tuple(zip(table.object[:_MOST_TRACES], table.achieved[:_MOST_TRACES], strict=True))


def _reaches(plan: StoredPlan) -> list[Reach]:
    wavefront = Wavefront(plan.scene)
    return [wavefront.reach(state) for state in plan.states]


def _fitted(text: str, width: int, points: int) -> str:
    """The text, cut where it would run into the next panel."""
    while text and _font(points).getlength(text) > width - 4:
        text = text.rstrip("…")[:-1] + "…"
    return text


@lru_cache(8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
