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

    face_counts: numbers of faces to try for, fewest first; the first whose extent error is within bounds is taken.
    extent_error_m: how far the silhouette may move, as `extent_error` measures it [m].
    """

    face_counts: tuple[int, ...] = (400, 800, 1600, 3200)
    extent_error_m: float = 0.0012


def decimate(mesh: Mesh, decimation: Decimation) -> Mesh:
    """A mesh with the same outline and fewer faces; `mesh` itself where that is not to be had."""
    vertices, faces = weld(mesh.vertices, mesh.faces)
    for count in decimation.face_counts:
        if count >= len(faces):
            return mesh
        fewer, kept = fast_simplification.simplify(vertices, faces, 1.0 - count / len(faces), agg=_AGGRESSION)
        fewer, kept = np.asarray(fewer, np.float32), np.asarray(kept, np.int32)
        if len(kept) and extent_error(vertices, fewer[np.unique(kept)]) <= decimation.extent_error_m:
            return Mesh(fewer, kept, *corner_normals(fewer, kept))
    return mesh


def weld(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices and faces with one vertex for each place, without triangles that have lost an edge by it."""
    _, first, place = np.unique(np.round(vertices / WELD_M), axis=0, return_index=True, return_inverse=True)
    welded = place.reshape(-1)[faces].astype(np.int32)
    a, b, c = welded.T
    return np.ascontiguousarray(vertices[first]), np.ascontiguousarray(welded[(a != b) & (b != c) & (c != a)])


def extent_error(vertices: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Largest difference [m] of how far two point sets reach, over directions spread evenly on the sphere."""
    directions = _sphere(_EXTENT_DIRECTIONS)
    return float(np.abs((vertices @ directions.T).max(axis=0) - (others @ directions.T).max(axis=0)).max())


def corner_normals(
    vertices: NDArray[np.float32], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """(normals, face_normals): at each corner the area-weighted mean of the faces around it within the crease angle."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    area_normals = np.cross(b - a, c - a)
    units = area_normals / np.maximum(np.linalg.norm(area_normals, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    around = _faces_around(faces, len(vertices))[faces]  # int[F, 3, K], -1 where a vertex has fewer faces
    smooth = np.einsum("fi,fcki->fck", units, units[around]) >= np.cos(np.deg2rad(CREASE_DEG))
    sums = np.einsum("fck,fcki->fci", smooth & (around >= 0), area_normals[around])
    lengths = np.linalg.norm(sums, axis=2, keepdims=True)
    corners = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1.0), units[:, None, :])
    normals, face_normals = np.unique(np.round(corners.reshape(-1, 3), 4), axis=0, return_inverse=True)
    return normals.astype(np.float32), face_normals.reshape(-1, 3).astype(np.int32)


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
