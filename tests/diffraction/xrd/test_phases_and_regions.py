"""Structures of Sn-Ti-Zn-O against spglib and against the lines by which phases are recognised."""

from __future__ import annotations

import numpy as np
import pytest
import spglib

from ase_matprop.diffraction.xrd.phases import PHASES, reflections
from ase_matprop.diffraction.xrd.regions import REGIONS, draw_samples
from ase_matprop.errors import UnknownNameError

COPPER = 1.5418
#: the strongest line at the wavelength of copper, degrees of 2 theta: powder diffraction files 41-1445 (SnO2), 21-1276
#: and 21-1272 (rutile, anatase), 36-1451 (ZnO), 25-1164 (Zn2TiO4), 24-1470 (Zn2SnO4), 26-1500 (ZnTiO3), 6-395 (SnO)
STRONGEST = {
    "SnO2": 26.6,
    "TiO2-rutile": 27.4,
    "TiO2-anatase": 25.3,
    "ZnO": 36.3,
    "Zn2TiO4": 35.2,
    "Zn2SnO4": 34.3,
    "ZnTiO3": 32.8,
    "SnO": 29.9,
}


@pytest.mark.parametrize("name", PHASES)
def test_symmetry_charges_and_distances(name: str) -> None:
    phase = PHASES[name]
    structure = phase.structure()
    kinds = [sorted(site.species.items(), key=str) for site in structure]
    numbers = [1 + next(i for i, other in enumerate(kinds) if other == kind) for kind in kinds]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    assert spglib.get_spacegroup_type(spglib.get_symmetry_dataset(cell, 1e-3).hall_number).number == phase.space_group
    charges = {"Sn": 2.0 if name == "SnO" else 4.0, "Ti": 4.0, "Zn": 2.0, "O": -2.0}
    total = sum(amount * charges[str(element)] for element, amount in structure.composition.items())
    assert total == pytest.approx(0.0)
    distances = structure.distance_matrix + 10.0 * np.eye(len(structure))
    assert 1.85 < distances.min() < 2.25, "the shortest distance is a bond between a metal and oxygen"
    nearest = distances.argmin(axis=1)
    assert all(("O" in structure[i].species) != ("O" in structure[j].species) for i, j in enumerate(nearest))


@pytest.mark.parametrize("name", STRONGEST)
def test_strongest_line(name: str) -> None:
    found = reflections(name, COPPER)
    strongest = found.spacings()[found.intensities.argmax()]
    assert 2.0 * np.degrees(np.arcsin(COPPER / 2.0 / strongest)) == pytest.approx(STRONGEST[name], abs=0.15)


def test_spacings_follow_the_axes() -> None:
    found = reflections("ZnO", COPPER)
    basal = [tuple(hkl) for hkl in found.hkl].index((0, 0, 2))
    prism = [tuple(hkl) for hkl in found.hkl].index((1, 0, 0))
    assert found.spacings()[basal] == pytest.approx(5.207 / 2.0)
    assert found.spacings()[prism] == pytest.approx(3.250 * np.sqrt(3.0) / 2.0)
    stretched = found.spacings((1.01, 1.02))
    assert stretched[basal] == pytest.approx(1.02 * 5.207 / 2.0)
    assert stretched[prism] == pytest.approx(1.01 * 3.250 * np.sqrt(3.0) / 2.0)


def test_tilts_are_angles_to_the_fibre_axis() -> None:
    zno = reflections("ZnO", COPPER)  # its fibre axis is 001
    by_hkl = {tuple(hkl): tilts for hkl, tilts in zip(zno.hkl.tolist(), zno.tilts, strict=True)}
    assert np.allclose(by_hkl[0, 0, 2][0], 0.0, atol=0.01) and np.allclose(by_hkl[1, 0, 0][0], 90.0)
    spinel = reflections("Zn2SnO4", COPPER)  # 111: the other members of its family are at 70.5 degrees
    by_hkl = {tuple(hkl): tilts for hkl, tilts in zip(spinel.hkl.tolist(), spinel.tilts, strict=True)}
    angles, shares = by_hkl[2, 2, 2]
    assert np.allclose(angles, [0.0, 70.53], atol=0.01) and np.allclose(shares, [0.25, 0.75])


def test_unknown_phase() -> None:
    with pytest.raises(UnknownNameError, match="unknown phase 'SnO3'. Did you mean"):
        reflections("SnO3", COPPER)


def test_regions_have_the_sizes_of_the_thesis() -> None:
    assert [region.size for region in REGIONS] == [26, 15, 24, 32, 13, 37, 7, 23]
    samples = draw_samples(np.random.default_rng(0))
    assert len(samples) == 177
    assert np.bincount([sample.region for sample in samples]).tolist() == [26, 15, 24, 32, 13, 37, 7, 23]
    assert all(phase in PHASES for region in REGIONS for phase in region.shares)
    for sample in samples:
        assert sample.composition.sum() == pytest.approx(1.0) and sample.composition.min() >= 0.0
        assert sum(sample.shares.values()) == pytest.approx(1.0)


def test_composition_follows_the_phases() -> None:
    samples = draw_samples(np.random.default_rng(1), largest_amorphous=0.1, noise=0.0)
    mean = {
        name: np.mean([s.composition for s in samples if REGIONS[s.region].name == name], axis=0)
        for name in ("TiO2-anatase", "ZnTiO3", "ZnO+Zn2TiO4")
    }
    assert mean["TiO2-anatase"][1] > 0.9
    assert mean["ZnTiO3"][1] == pytest.approx(mean["ZnTiO3"][2], abs=0.05)
    assert mean["ZnO+Zn2TiO4"][2] > 0.7
