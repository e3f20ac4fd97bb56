"""A copy of a compiled model that is only good for drawing: its meshes have fewer triangles.

The copy keeps every body, joint and geom, so a state of the original is a state of the copy. MuJoCo keeps the arrays of
all meshes end to end; a smaller mesh is written over the beginning of its own place, and the rest is left unused.

MuJoCo draws without an index buffer: it sends three vertices for each face, in each pass. PickPlaceCan with a Panda has
185 k faces, which cost more than half of a frame on a CPU.
"""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from producers.robosuite.mesh_decimation import Decimation, Mesh, decimate

_NONE = -1


def render_model(model: mujoco.MjModel, decimation: Decimation) -> mujoco.MjModel:
    """A copy to draw from; simulate with the original. Textured meshes are left as they are."""
    copied = copy.copy(model)
    textured = _textured_meshes(model)
    for index in range(model.nmesh):
        if index not in textured:
            _store(copied, index, decimate(read_mesh(model, index), decimation))
    return copied


def read_mesh(model: mujoco.MjModel, index: int) -> Mesh:
    """Mesh number `index` as arrays of its own."""
    vertices = slice(model.mesh_vertadr[index], model.mesh_vertadr[index] + model.mesh_vertnum[index])
    normals = slice(model.mesh_normaladr[index], model.mesh_normaladr[index] + model.mesh_normalnum[index])
    faces = slice(model.mesh_faceadr[index], model.mesh_faceadr[index] + model.mesh_facenum[index])
    return Mesh(
        vertices=model.mesh_vert[vertices].copy(),
        faces=model.mesh_face[faces].copy(),
        normals=model.mesh_normal[normals].copy(),
        face_normals=model.mesh_facenormal[faces].copy(),
    )


def _textured_meshes(model: mujoco.MjModel) -> set[int]:
    """Meshes that some geom draws with a texture, whose coordinates a decimated mesh would lose."""
    is_mesh = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_matid >= 0)
    materials = model.geom_matid[is_mesh]
    has_texture = (model.mat_texid[materials] >= 0).any(axis=1)
    return set(model.geom_dataid[is_mesh][has_texture].tolist())


def _store(model: mujoco.MjModel, index: int, mesh: Mesh) -> None:
    """Write `mesh` over mesh number `index`, unless it needs more room than there is."""
    room = (model.mesh_vertnum[index], model.mesh_normalnum[index], model.mesh_facenum[index])
    need = (len(mesh.vertices), len(mesh.normals), len(mesh.faces))
    if need[2] >= room[2] or any(np.greater(need, room)):
        return
    vertex, normal, face = model.mesh_vertadr[index], model.mesh_normaladr[index], model.mesh_faceadr[index]
    model.mesh_vert[vertex : vertex + need[0]] = mesh.vertices
    model.mesh_normal[normal : normal + need[1]] = mesh.normals
    model.mesh_face[face : face + need[2]] = mesh.faces
    model.mesh_facenormal[face : face + need[2]] = mesh.face_normals
    model.mesh_vertnum[index], model.mesh_normalnum[index], model.mesh_facenum[index] = need
    # The convex hull and the texture coordinates are indexed by the vertices that were.
    model.mesh_graphadr[index] = _NONE
    model.mesh_texcoordadr[index] = _NONE
