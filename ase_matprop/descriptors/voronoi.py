r"""Voronoi tessellations of periodic structures, for a whole batch in flat arrays.

The tessellation is computed by voro++ (Rycroft, Chaos 19, 041111 (2009), doi:10.1063/1.3215722) through freud
(Ramasubramani et al., Comput. Phys. Commun. 254, 107275 (2020), doi:10.1016/j.cpc.2020.107275), one call per structure
on a Minkowski-reduced cell.  On about two structures in a hundred (highly degenerate vertices) freud's neighbour list
lacks a face of one or both of the cells that share it, while cell volumes and vertices are right.  Two sum rules find
and repair this here:

* every face is seen from both of its sides, with the same area;
* the pyramids over the faces of a cell fill it: :math:`\frac{1}{6}\sum_f A_f d_f = V`, with :math:`A_f` the area of a
  face and :math:`d_f` the distance of the two sites that share it.

A cell that violates the second rule gets its faces from the convex hull of its vertices.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import freud
import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from ase_matprop.descriptors.geometries import Geometry, Known, RecentGeometries
from ase_matprop.descriptors.tessellation import Tessellation, face_key

logger = logging.getLogger(__name__)

_PAIRS = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))

_recent = RecentGeometries()
_STDERR_LOCK = threading.Lock()  # so that no thread saves a redirected descriptor as the real one
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    # nor a forked process inherits it, or a lock that nobody will ever open
    os.register_at_fork(
        before=_STDERR_LOCK.acquire, after_in_parent=_STDERR_LOCK.release, after_in_child=_STDERR_LOCK.release
    )

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_VOLUME_TOLERANCE = 1e-5  # relative; freud works on single-precision coordinates
_ACCEPTED = 1e-3  # relative deviation from a sum rule after the repair; 1e-5 is usual
_SMALLEST_FACE = 1e-7  # relative to (cell volume per site)^(2/3); smaller ones are round-off of degenerate vertices


def reduced_lattice(lattice: FloatArray) -> FloatArray:
    """Return a Minkowski-reduced basis of a lattice: no integer combination with small coefficients shortens a vector.

    The same as :meth:`ase.cell.Cell.minkowski_reduce` up to the choice among vectors of equal length, at a tenth of the
    time.

    Args:
        lattice: lattice vectors as rows in Angstrom, shape (3, 3).
    """
    vectors = [tuple(row) for row in np.asarray(lattice, dtype=float).tolist()]
    lengths = [_dot(v, v) for v in vectors]  # squared
    changed = True
    while changed:
        changed = False
        for i, j in _PAIRS:
            if lengths[i] <= lengths[j]:
                dot = _dot(vectors[i], vectors[j])
                if abs(dot) > (0.5 + 1e-9) * lengths[i]:
                    n = round(dot / lengths[i])
                    (ax, ay, az), (bx, by, bz) = vectors[i], vectors[j]
                    vectors[j] = (bx - n * ax, by - n * ay, bz - n * az)
                    lengths[j] = _dot(vectors[j], vectors[j])
                    changed = True
        if not changed:  # pairs are reduced; now all three
            longest = lengths.index(max(lengths))
            for p, q in _SIGNS:
                (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vectors
                total = (ax + p * bx + q * cx, ay + p * by + q * cy, az + p * bz + q * cz)
                length = _dot(total, total)
                if length < (1.0 - 1e-9) * lengths[longest]:
                    vectors[longest], lengths[longest] = total, length
                    changed = True
                    break
    return np.array(vectors)


def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


class _NativeStderr:
    """Keeps what voro++ writes to standard error from the user: a line whenever its memory grows.

    Python offers no narrower way than the file descriptor of the whole process.  It points to a temporary file for the
    milliseconds of each call of freud; what others wrote there meanwhile is passed on at the end of the batch.
    """

    noise = b"vertex memory scaled up to"

    def __enter__(self) -> _NativeStderr:
        self.file = tempfile.TemporaryFile()
        return self

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        with _STDERR_LOCK:
            try:
                saved = os.dup(2)
            except OSError:  # no standard error at all
                yield
                return
            try:
                os.dup2(self.file.fileno(), 2)
                yield
            finally:
                os.dup2(saved, 2)
                os.close(saved)

    def __exit__(self, *_: object) -> None:
        self.file.seek(0)
        other = b"".join(line for line in self.file if self.noise not in line)
        self.file.close()
        if other:
            os.write(2, other)


def tessellate(structures: Sequence[Atoms]) -> tuple[Tessellation | None, list[str | None]]:
    """Compute the Voronoi tessellations of periodic ``structures``.

    Structures that differ in nothing but which element is where, as the orderings of one parent lattice do, have one
    tessellation: it is computed once, and remembered for the next call.

    Args:
        structures: valid three-dimensionally periodic structures (see :func:`ase_matprop.structures.as_atoms`).

    Returns:
        The tessellation of the structures that have one (None if there is none), in their order, and for each of
        ``structures`` None or the reason why it is left out.
    """
    geometries = [Geometry.of(atoms) for atoms in structures]
    known = {geometry.key: _recent.get(geometry.key) for geometry in geometries}
    new: dict[bytes, tuple[Atoms, IntArray]] = {}  # of each geometry the structure that comes first
    for geometry, atoms in zip(geometries, structures, strict=True):
        if known[geometry.key] is None:
            new.setdefault(geometry.key, (atoms, geometry.order))
    reasons: dict[bytes, str] = {}
    if new:
        parts, failures = _tessellate_each([atoms for atoms, _ in new.values()])
        for (key, (_, order)), part, failure in zip(new.items(), parts, failures, strict=True):
            if part is None:
                reasons[key] = failure or ""
                continue
            known[key] = entry = Known(part, order)
            _recent.put(key, entry)
    found = [(known[geometry.key], geometry.order) for geometry in geometries]
    good = [(entry, order) for entry, order in found if entry is not None]
    errors = [reasons.get(geometry.key) for geometry in geometries]
    if not good:
        return None, errors
    orders = [entry.order_of(order) for entry, order in good]
    return Tessellation.join([entry.tessellation for entry, _ in good], orders), errors


def _tessellate_each(structures: Sequence[Atoms]) -> tuple[list[Tessellation | None], list[str | None]]:
    """Return the tessellation of each structure, or why there is none."""
    errors: list[str | None] = [None] * len(structures)
    cells: dict[int, _FreudCells] = {}
    with _NativeStderr() as stderr:
        for index, atoms in enumerate(structures):
            try:
                cells[index] = _FreudCells(atoms, stderr)
            except Exception as error:  # freud raises bare RuntimeErrors
                errors[index] = f"the Voronoi tessellation failed: {error}"
    parts: list[Tessellation | None] = [None] * len(structures)
    if cells:
        tessellation, failed = _assemble(list(cells.values()))
        for position, (index, part) in enumerate(zip(cells, tessellation.split(), strict=True)):
            if position in failed:
                errors[index] = "the Voronoi cells do not fill the unit cell; are atoms on top of one another?"
            else:
                parts[index] = part
    return parts, errors


class _FreudCells:
    """freud's Voronoi cells of one structure, in a reduced and rotated cell."""

    def __init__(self, atoms: Atoms, stderr: _NativeStderr) -> None:
        reduced = reduced_lattice(atoms.cell.array)
        # freud wants an upper triangular box; the rotation (or rotoinversion) to it leaves all areas as they are
        upper = np.linalg.qr(reduced.T, mode="r")
        self.lattice = (upper * np.sign(np.diag(upper))[:, None]).T  # rows are lattice vectors
        fractional = np.linalg.solve(reduced.T, atoms.positions.T).T
        self.positions = (fractional - np.floor(fractional) - 0.5) @ self.lattice
        (lx, _, _), (bx, ly, _), (cx, cy, lz) = self.lattice
        box = freud.box.Box(lx, ly, lz, bx / ly, cx / lz, cy / lz)
        with stderr.captured():
            self.voronoi = freud.locality.Voronoi().compute((box, self.positions.astype(np.float32)))
        self.volume = lx * ly * lz

    def hull_faces(self, site: int) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return neighbours, vectors to them and areas for the faces of one cell, from the hull of its vertices."""
        vertices = self.voronoi.polytopes[site]
        center = self.positions[site]
        hull = ConvexHull(vertices - center)
        corners = hull.points[hull.simplices]
        area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        vector = -2.0 * hull.equations[:, 3:] * hull.equations[:, :3]
        # the site behind each triangle: the one that is nearest, modulo the lattice, to the mirror image of this site
        offset = np.linalg.solve(self.lattice.T, (center + vector[:, None, :] - self.positions).reshape(-1, 3).T).T
        residual = np.linalg.norm((offset - np.rint(offset)) @ self.lattice, axis=1).reshape(len(area), -1)
        neighbor = residual.argmin(axis=1)
        sound = residual.min(axis=1) < 0.05 * np.linalg.norm(vector, axis=1)  # slivers have arbitrary normals
        return neighbor[sound], vector[sound], area[sound]


def _assemble(cells: Sequence[_FreudCells]) -> tuple[Tessellation, set[int]]:
    """Join the cells of all structures, with missing faces repaired; also return the structures beyond repair."""
    n_sites = np.array([len(cell.positions) for cell in cells], dtype=np.int64)
    first_site = np.concatenate([[0], np.cumsum(n_sites)])[:-1]
    structure = np.repeat(np.arange(len(cells)), n_sites)
    positions = np.concatenate([cell.positions for cell in cells])
    lattice = np.stack([cell.lattice for cell in cells])
    inverse = np.linalg.inv(lattice)
    site_volumes = np.concatenate([cell.voronoi.volumes for cell in cells]).astype(np.float64)

    lists = [cell.voronoi.nlist for cell in cells]
    site = np.concatenate([first + nl.query_point_indices for first, nl in zip(first_site, lists, strict=True)])
    neighbor = np.concatenate([first + nl.point_indices for first, nl in zip(first_site, lists, strict=True)])
    vector = np.concatenate([nl.vectors for nl in lists]).astype(np.float64)
    area = np.concatenate([nl.weights for nl in lists]).astype(np.float64)

    def faces_from(site: IntArray, neighbor: IntArray, vector: FloatArray, area: FloatArray) -> _Faces:
        at = structure[site]
        offset = np.einsum("fi,fij->fj", vector - positions[neighbor] + positions[site], inverse[at])
        image = np.rint(offset).astype(np.int64)
        exact = positions[neighbor] - positions[site] + np.einsum("fi,fij->fj", image.astype(float), lattice[at])
        large = area > _SMALLEST_FACE * np.cbrt(site_volumes[site]) ** 2
        return _Faces(site[large], neighbor[large], image[large], area[large], np.linalg.norm(exact[large], axis=1))

    faces = faces_from(site, neighbor, vector, area).two_sided()
    wrong = np.flatnonzero(np.abs(faces.volumes(len(structure)) / site_volumes - 1.0) > _VOLUME_TOLERANCE)
    if len(wrong):
        repaired = []
        for index in wrong:
            owner = structure[index]
            try:
                behind, to, size = cells[owner].hull_faces(int(index - first_site[owner]))
            except Exception as error:  # Qhull: degenerate vertices; the volume check below decides
                logger.debug("no convex hull for site %d: %s", index, error)
                continue
            repaired.append(faces_from(np.full(len(behind), index), behind + first_site[owner], to, size).merged())
        faces = _Faces.join([faces, *repaired]).two_sided()
    deviation = np.abs(faces.volumes(len(structure)) / site_volumes - 1.0)
    total = np.abs(np.add.reduceat(site_volumes, first_site) / [cell.volume for cell in cells] - 1.0)
    failed = np.flatnonzero((np.maximum.reduceat(deviation, first_site) > _ACCEPTED) | (total > _ACCEPTED))

    key = face_key(faces.site, faces.neighbor, faces.image)
    reverse = np.searchsorted(key, face_key(faces.neighbor, faces.site, -faces.image))
    return (
        Tessellation(
            n_sites=n_sites,
            structure=structure,
            cell_volumes=np.array([cell.volume for cell in cells]),
            site=faces.site,
            neighbor=faces.neighbor,
            area=faces.area,
            distance=faces.distance,
            site_volumes=site_volumes,
            reverse=reverse,
            key=key,
            image=faces.image,
            order=np.arange(len(structure)),
        ),
        set(failed.tolist()),
    )


@dataclass(frozen=True, eq=False)
class _Faces:
    site: IntArray
    neighbor: IntArray
    image: IntArray
    area: FloatArray
    distance: FloatArray

    @classmethod
    def join(cls, parts: Sequence[_Faces]) -> _Faces:
        names = ("site", "neighbor", "image", "area", "distance")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def volumes(self, n: int) -> FloatArray:
        """Volume under the faces of each of ``n`` sites."""
        return np.bincount(self.site, self.area * self.distance / 6.0, minlength=n).astype(np.float64)

    def merged(self) -> _Faces:
        """Add up the triangles that belong to one face."""
        key = face_key(self.site, self.neighbor, self.image)
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        area = np.bincount(inverse, self.area).astype(np.float64)
        return _Faces(self.site[first], self.neighbor[first], self.image[first], area, self.distance[first])

    def two_sided(self) -> _Faces:
        """Return the faces with each of them seen from both sides, once each, sorted by key."""
        site = np.concatenate([self.site, self.neighbor])
        neighbor = np.concatenate([self.neighbor, self.site])
        image = np.concatenate([self.image, -self.image])
        area = np.concatenate([self.area, self.area])
        key = face_key(site, neighbor, image)
        # the largest area first among equal keys: what one side lost, the other may still have
        order = np.lexsort((-area, key))
        first = order[np.concatenate([[True], np.diff(key[order]) != 0])]
        distance = np.concatenate([self.distance, self.distance])
        return _Faces(site[first], neighbor[first], image[first], area[first], distance[first])
