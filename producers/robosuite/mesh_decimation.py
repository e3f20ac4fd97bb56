"""Fewer triangles for the same solid, on plain arrays.

Data format (V vertices, N normals, F triangles; lengths in metres, in the mesh's own frame):

    vertices        float32[V, 3]
    normals         float32[N, 3]   unit length
    faces           int32[F, 3]     indices into `vertices`, counter-clockwise seen from outside
    face_normals    int32[F, 3]     indices into `normals`, one per corner

A mesh from a file repeats a vertex for every normal that meets there, so its triangles share no edge and a decimator
would pull them apart. Vertices are therefore welded first, and normals are made anew at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import fast_simplification
import numpy as np
from numpy.typing import NDArray

# Below the precision of the files that meshes come from, above float32 rounding.
WELD_M = 1e-6
# Corners whose faces meet at less than this are shaded smoothly; sharper ones stay edges.
CREASE_DEG = 40.0
# How eagerly fast_simplification works, 0 to 10. Measured on the Panda at equal numbers of faces: 2 moves the outline a
# quarter as far as its default, 7, does.
_AGGRESSION = 2
_EXTENT_DIRECTIONS = 128


@dataclass(frozen=True)
class Mesh:
    """Triangles with a normal at every corner; shapes are in the module's docstring."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    normals: NDArray[np.float32]
    face_normals: NDArray[np.int32]


@dataclass(frozen=True)
class Decimation:
    """How far to go.

    face_counts: numbers of faces to try for, fewest first; the first that stays within both bounds is taken.
    extent_error_m: how far the outline may move, as `extent_error` measures it [m].
    area_error: by what part the surface may grow or shrink. An open mesh loses area where the decimator tears it.
    cell_m: where no count will do, vertices within one cell of such a grid are joined [m].
    """

    face_counts: tuple[int, ...] = (1200, 2400, 4800)
    extent_error_m: float = 0.0012
    area_error: float = 0.04
    cell_m: float = 0.005


def decimate(mesh: Mesh, decimation: Decimation) -> Mesh:
    """A mesh with the same outline and fewer faces; `mesh` itself where that is not to be had."""
    vertices, faces = weld(mesh.vertices, mesh.faces, WELD_M)
    if len(faces) <= decimation.face_counts[0]:
        return mesh
    area = surface_area(vertices, faces)
    for fewer, kept in _candidates(vertices, faces, decimation):
        if len(kept) >= len(faces) or abs(surface_area(fewer, kept) / area - 1.0) > decimation.area_error:
            continue
        if extent_error(vertices, fewer[np.unique(kept)]) <= decimation.extent_error_m:
            return Mesh(fewer, kept, *corner_normals(fewer, kept))
    return mesh


def _candidates(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], decimation: Decimation
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    for count in decimation.face_counts:
        if count < len(faces):
            fewer, kept = fast_simplification.simplify(vertices, faces, 1.0 - count / len(faces), agg=_AGGRESSION)
            yield np.asarray(fewer, np.float32), np.asarray(kept, np.int32)
    # Rougher on round parts, but it cannot tear a mesh of many open pieces, such as robosuite's pedestal.
    yield weld(vertices, faces, decimation.cell_m)


def weld(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], cell_m: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and faces with one vertex, the mean, for each cell of a grid; without triangles that lose an edge."""
    _, cell, members = np.unique(np.round(vertices / cell_m), axis=0, return_inverse=True, return_counts=True)
    cell = cell.reshape(-1)
    means = np.stack([np.bincount(cell, weights=axis) / members for axis in vertices.T], axis=1)
    welded = cell[faces].astype(np.int32)
    a, b, c = welded.T
    return means.astype(np.float32), np.ascontiguousarray(welded[(a != b) & (b != c) & (c != a)])


def extent_error(vertices: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Largest difference [m] of how far two point sets reach, over directions spread evenly on the sphere."""
    directions = _sphere(_EXTENT_DIRECTIONS)
    return float(np.abs((vertices @ directions.T).max(axis=0) - (others @ directions.T).max(axis=0)).max())


def surface_area(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> float:
    """Area of all triangles [m²]."""
    return float(np.linalg.norm(_area_normals(vertices, faces), axis=1).sum() / 2)


def corner_normals(
    vertices: NDArray[np.float32], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(normals, face_normals): at each corner the area-weighted mean of the faces around it within the crease angle."""
    area_normals = _area_normals(vertices, faces)
    units = area_normals / np.maximum(np.linalg.norm(area_normals, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    around = _faces_around(faces, len(vertices))[faces]  # int[F, 3, K], -1 where a vertex has fewer faces
    smooth = np.einsum("fi,fcki->fck", units, units[around]) >= np.cos(np.deg2rad(CREASE_DEG))
    sums = np.einsum("fck,fcki->fci", smooth & (around >= 0), area_normals[around])
    lengths = np.linalg.norm(sums, axis=2, keepdims=True)
    corners = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1.0), units[:, None, :])
    normals, face_normals = np.unique(np.round(corners.reshape(-1, 3), 4), axis=0, return_inverse=True)
    return normals.astype(np.float32), face_normals.reshape(-1, 3).astype(np.int32)


def _area_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """float64[F, 3]: normals of the faces, twice as long as their areas."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    normals: NDArray[np.float64] = np.cross(b - a, c - a)
    return normals


def _faces_around(faces: NDArray[np.int32], vertices: int) -> NDArray[np.int64]:
    """int64[V, K]: the faces that touch each vertex, padded with -1."""
    order = np.argsort(faces, axis=None, kind="stable")
    owner = faces.reshape(-1)[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    table = np.full((vertices, int(rank.max()) + 1), -1, dtype=np.int64)
    table[owner, rank] = order // 3
    return table


def _sphere(count: int) -> NDArray[np.float32]:
    """float32[count + 6, 3]: unit vectors on a golden spiral, then the six axes."""
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    z = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    radius = np.sqrt(1.0 - z * z)
    spiral = np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)
    directions: NDArray[np.float32] = np.concatenate([spiral, np.eye(3), -np.eye(3)]).astype(np.float32)
    return directions
