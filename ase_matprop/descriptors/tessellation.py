"""Voronoi cells of a batch of structures in flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_IMAGE_BITS = 7  # per lattice direction in a face key: images -64 ... 63
_SITE_BITS = 21


@dataclass(frozen=True, eq=False)
class Tessellation:
    """Voronoi cells of a batch of structures.

    Sites are numbered through the batch, structure after structure.  Each face stands twice, once from each of its two
    sites; faces are sorted by ``site``.

    Attributes:
        n_sites: number of sites of each structure, shape (n_structures,).
        structure: index of the structure of each site, shape (n_sites_total,).
        cell_volumes: volume of each unit cell in Angstrom^3, shape (n_structures,).
        site: site from which a face is seen, shape (n_faces,).
        neighbor: site (of the same structure) behind the face, shape (n_faces,).
        area: face areas in Angstrom^2, shape (n_faces,).
        distance: distances of the two sites of a face in Angstrom, shape (n_faces,).
        site_volumes: volumes of the Voronoi cells in Angstrom^3, shape (n_sites_total,).
        reverse: index of the same face seen from ``neighbor``, shape (n_faces,).
        key: sorted identifiers of the faces, see :meth:`find_faces`, shape (n_faces,).
        image: lattice translation of the neighbour in the reduced cell, shape (n_faces, 3).
        order: for each site the number of its atom, counted through the batch, shape (n_sites_total,).  Structures of
            one geometry share a tessellation, whatever the order of their atoms.
        distinct: one tessellation for each geometry in the batch; empty if it has only one structure.
        geometry: for each structure the one of ``distinct`` that is its own, shape (n_structures,).
    """

    n_sites: IntArray
    structure: IntArray
    cell_volumes: FloatArray
    site: IntArray
    neighbor: IntArray
    area: FloatArray
    distance: FloatArray
    site_volumes: FloatArray
    reverse: IntArray
    key: IntArray
    image: IntArray
    order: IntArray
    distinct: tuple[Tessellation, ...] = ()
    geometry: IntArray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    _of_sites: dict[str, FloatArray] = field(default_factory=dict)

    @cached_property
    def first_site(self) -> IntArray:
        """Index of the first site of each structure, shape (n_structures,)."""
        return np.concatenate([[0], np.cumsum(self.n_sites)[:-1]]).astype(np.int64)

    @cached_property
    def first_face(self) -> IntArray:
        """Index of the first face of each site, shape (n_sites_total,)."""
        return np.searchsorted(self.site, np.arange(len(self.structure)))

    def find_faces(self, site: IntArray, neighbor: IntArray, image: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """Look up the faces between ``site`` and ``neighbor`` translated by ``image``.

        Returns:
            Indices of the faces (only meaningful where found) and whether each of them exists, both of shape (n,).
        """
        key = face_key(site, neighbor, image)
        index = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return index, self.key[index] == key

    def once_per_geometry(self, name: str, function: Callable[[Tessellation], FloatArray]) -> FloatArray:
        """Return a quantity of the sites that depends on the geometry alone, computed once for each geometry.

        Args:
            name: under which it is remembered.
            function: what computes it for the sites of a tessellation, shape (n_sites_total,).
        """
        if not self.distinct:
            if name not in self._of_sites:
                self._of_sites[name] = function(self)
            return self._of_sites[name]
        missing = [part for part in self.distinct if name not in part._of_sites]
        if missing:
            values = function(Tessellation.join(missing))
            ends = np.cumsum([len(part.structure) for part in missing])
            for part, own in zip(missing, np.split(values, ends[:-1]), strict=True):
                part._of_sites[name] = own
        return np.concatenate([self.distinct[number]._of_sites[name] for number in self.geometry.tolist()])

    @classmethod
    def join(cls, parts: Sequence[Tessellation], orders: Sequence[IntArray] | None = None) -> Tessellation:
        """Join tessellations of single structures, some of which may be the same object.

        Args:
            parts: at least one.
            orders: :attr:`order` for each of them, as they are by default.
        """
        n_sites = np.array([len(part.structure) for part in parts], dtype=np.int64)
        n_faces = np.array([len(part.site) for part in parts], dtype=np.int64)
        first_site, first_face = np.cumsum(n_sites) - n_sites, np.cumsum(n_faces) - n_faces
        shift = np.repeat(first_site, n_faces)

        def joined(name: str) -> NDArray:
            return np.concatenate([getattr(part, name) for part in parts])

        distinct = {id(part): part for part in parts}
        number = {key: position for position, key in enumerate(distinct)}
        own_orders = [part.order for part in parts] if orders is None else orders
        return cls(
            n_sites=n_sites,
            structure=np.repeat(np.arange(len(parts)), n_sites),
            cell_volumes=joined("cell_volumes"),
            site=joined("site") + shift,
            neighbor=joined("neighbor") + shift,
            area=joined("area"),
            distance=joined("distance"),
            site_volumes=joined("site_volumes"),
            reverse=joined("reverse") + np.repeat(first_face, n_faces),
            # a key is a sum of bit fields, so that it moves with both of its sites
            key=joined("key") + (shift << (3 * _IMAGE_BITS)) + (shift << (3 * _IMAGE_BITS + _SITE_BITS)),
            image=joined("image"),
            order=np.concatenate(own_orders) + np.repeat(first_site, n_sites),
            distinct=tuple(distinct.values()),
            geometry=np.array([number[id(part)] for part in parts], dtype=np.int64),
        )

    def split(self) -> list[Tessellation]:
        """Return the tessellation of each structure."""
        first_site = self.first_site
        first_face = np.searchsorted(self.site, np.append(first_site, len(self.structure)))
        parts = []
        for index, (site, n_sites) in enumerate(zip(first_site.tolist(), self.n_sites.tolist(), strict=True)):
            faces, sites = slice(first_face[index], first_face[index + 1]), slice(site, site + n_sites)
            parts.append(
                Tessellation(
                    n_sites=self.n_sites[index : index + 1],
                    structure=np.zeros(n_sites, dtype=np.int64),
                    cell_volumes=self.cell_volumes[index : index + 1],
                    site=self.site[faces] - site,
                    neighbor=self.neighbor[faces] - site,
                    area=self.area[faces].copy(),
                    distance=self.distance[faces].copy(),
                    site_volumes=self.site_volumes[sites].copy(),
                    reverse=self.reverse[faces] - first_face[index],
                    key=self.key[faces] - (site << (3 * _IMAGE_BITS)) - (site << (3 * _IMAGE_BITS + _SITE_BITS)),
                    image=self.image[faces].copy(),
                    order=self.order[sites] - site,
                )
            )
        return parts


def face_key(site: IntArray, neighbor: IntArray, image: IntArray) -> IntArray:
    """Pack site (21 bits), neighbour (21 bits) and lattice translation (3 x 7 bits) into one sortable integer."""
    half = 1 << (_IMAGE_BITS - 1)
    key = (site.astype(np.int64) << _SITE_BITS) | neighbor
    for axis in range(3):
        key = (key << _IMAGE_BITS) | (image[..., axis] + half)
    return key
