"""Decimated meshes keep their outline, their surface and their edges."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from producers.robosuite.mesh_decimation import (
    WELD_M,
    Decimation,
    Mesh,
    corner_normals,
    decimate,
    extent_error,
    surface_area,
    weld,
)
from producers.robosuite.render_model import read_mesh, render_model

FINE = Decimation(face_counts=(300, 600, 1200), extent_error_m=0.002)


def tube(around: int, along: int) -> Mesh:
    """A closed tube of radius 0.1 m and length 0.4 m whose triangles share no vertex, as in a file."""
    turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, around + 1), np.linspace(0, 0.4, along + 1))
    grid = np.stack([0.1 * np.cos(turn), 0.1 * np.sin(turn), height], axis=-1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    side = np.concatenate([np.stack([a, b, c], -2).reshape(-1, 3, 3), np.stack([a, c, d], -2).reshape(-1, 3, 3)])
    floor = np.stack([b[0], a[0], np.zeros_like(a[0])], axis=1)
    lid = np.stack([d[-1], c[-1], np.full_like(d[-1], [0, 0, 0.4])], axis=1)
    triangles = np.concatenate([side, floor, lid]).astype(np.float32)
    faces = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    vertices = triangles.reshape(-1, 3)
    return Mesh(vertices, faces, *corner_normals(vertices, faces))


def open_edges(faces: NDArray[np.int32]) -> int:
    """Edges that only one triangle has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return int((np.unique(edges, axis=0, return_counts=True)[1] == 1).sum())


def test_a_decimated_mesh_is_smaller_closed_and_of_the_same_size() -> None:
    mesh = tube(60, 40)
    smaller = decimate(mesh, FINE)
    assert open_edges(mesh.faces) == 3 * len(mesh.faces)
    assert open_edges(smaller.faces) == 0
    assert len(smaller.faces) <= 600 < len(mesh.faces)
    assert len(smaller.vertices) < len(mesh.vertices)
    assert np.allclose(smaller.vertices.min(axis=0), mesh.vertices.min(axis=0), atol=0.002)
    assert np.allclose(smaller.vertices.max(axis=0), mesh.vertices.max(axis=0), atol=0.002)
    area = surface_area(mesh.vertices, mesh.faces)
    assert surface_area(smaller.vertices, smaller.faces) == pytest.approx(area, rel=FINE.area_error)


def test_normals_are_smooth_around_and_sharp_at_the_rim() -> None:
    smaller = decimate(tube(60, 40), FINE)
    normals = smaller.normals[smaller.face_normals]
    assert np.allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-3)
    corners = smaller.vertices[smaller.faces]
    caps = np.ptp(corners[..., 2], axis=1) < 1e-3
    assert np.allclose(np.abs(normals[caps][..., 2]), 1, atol=0.01)
    outward = corners[~caps][..., :2] / np.linalg.norm(corners[~caps][..., :2], axis=2, keepdims=True)
    # Smooth: the normal of a corner points away from the axis, not straight off its flat triangle.
    assert (normals[~caps][..., :2] * outward).sum(axis=2).min() > 0.95


def test_a_small_mesh_is_left_alone() -> None:
    mesh = tube(8, 4)
    assert decimate(mesh, FINE) is mesh


def test_a_mesh_that_would_lose_its_outline_is_left_alone() -> None:
    mesh = tube(60, 40)
    assert decimate(mesh, Decimation(face_counts=(300,), extent_error_m=1e-9)) is mesh


def test_a_mesh_that_would_tear_is_joined_on_a_grid() -> None:
    mesh = tube(60, 40)
    never_by_count = Decimation(face_counts=(40,), extent_error_m=0.006, cell_m=0.01)
    smaller = decimate(mesh, never_by_count)
    assert 40 < len(smaller.faces) < len(mesh.faces)
    assert open_edges(smaller.faces) == 0


def test_welding_joins_what_is_in_one_place() -> None:
    mesh = tube(12, 5)
    vertices, faces = weld(mesh.vertices, mesh.faces, WELD_M)
    assert len(vertices) == 12 * 6 + 2
    assert len(faces) == len(mesh.faces)
    assert np.allclose(vertices[faces], mesh.vertices[mesh.faces], atol=1e-6)


def test_extent_error_is_how_far_a_point_sticks_out() -> None:
    vertices = tube(12, 5).vertices
    assert extent_error(vertices, vertices) == 0
    assert extent_error(vertices, vertices + np.array([0, 0, 0.01], np.float32)) == pytest.approx(0.01, abs=1e-4)


def test_a_render_model_keeps_everything_but_the_triangles() -> None:
    mesh = tube(80, 50)
    # A file's order of triangles is MuJoCo's; the vertices are given as text.
    text = " ".join(f"{value:.6f}" for value in mesh.vertices.reshape(-1))
    faces = " ".join(str(index) for index in mesh.faces.reshape(-1))
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><asset><mesh name="tube" vertex="{text}" face="{faces}"/></asset>'
        '<worldbody><body pos="1 2 3"><freejoint/><geom type="mesh" mesh="tube"/></body></worldbody></mujoco>'
    )
    before = read_mesh(model, 0)
    drawn = render_model(model, FINE)
    assert drawn.mesh_facenum[0] <= 600 < model.mesh_facenum[0]
    assert np.array_equal(read_mesh(model, 0).vertices, before.vertices), "the original is not touched"
    assert extent_error(read_mesh(drawn, 0).vertices, before.vertices) <= FINE.extent_error_m
    assert (drawn.nq, drawn.nv, drawn.ngeom) == (model.nq, model.nv, model.ngeom)
    assert np.array_equal(drawn.geom_pos, model.geom_pos)
