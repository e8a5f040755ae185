"""Composition features, element fractions and elemental data: against matminer, and invariants."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from ase_matprop.descriptors import composition, fractions
from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES, load_element_table
from ase_matprop.descriptors.registry import amounts_of, get_descriptor
from ase_matprop.errors import DescriptorError, UnknownNameError

FORMULAS = [
    "Fe", "NaCl", "Fe2O3", "Fe3O4", "SrTiO3", "LiFePO4", "CoCrFeMnNi", "Na2LaTiZrO6F", "XeF2", "Cu3Au", "Kr", "Th3P4",
    "PuO2", "Nb3Sn", "C60H60", "Pm2O3", "Mg2SiO4", "NbCu3H8(NO)8", "HgBa2Ca2Cu3O8", "ArNe",
]  # fmt: skip
LABELS = composition.feature_labels()


def amounts(formula: str) -> dict[int, float]:
    from pymatgen.core import Composition

    return {element.Z: amount for element, amount in Composition(formula).items()}


def test_elemental_data_are_those_of_matminer() -> None:
    from matminer.utils.data import MagpieData
    from pymatgen.core import Element

    table = load_element_table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = MagpieData(impute_nan=True)
    for column, name in enumerate(MAGPIE_PROPERTIES):
        expected = [source.get_elemental_property(Element(symbol), name) for symbol in table.symbols[1:]]
        np.testing.assert_allclose(table.properties[1:, column], expected, rtol=1e-12)
    for symbol, states in zip(table.symbols[1:], table.oxidation_states[1:], strict=True):
        assert list(states) == source.get_oxidation_states(Element(symbol))


@pytest.mark.parametrize("formula", FORMULAS)
def test_agrees_with_matminer(formula: str) -> None:
    from matminer.featurizers import composition as mc
    from matminer.utils.data import MagpieData
    from pymatgen.core import Composition

    class MagpieIons(MagpieData):
        """Magpie's electronegativity under the name that matminer's IonProperty asks for."""

        def get_elemental_property(self, elem, property_name):
            return super().get_elemental_property(elem, "Electronegativity" if property_name == "X" else property_name)

    target = Composition(formula)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        magpie = mc.ElementProperty.from_preset("magpie")
        statistics = {
            tuple(label.split()[1:]): value
            for label, value in zip(magpie.feature_labels(), magpie.featurize(target), strict=True)
        }
        order = ("mean", "range", "avg_dev", "maximum", "minimum", "mode")
        expected = [
            *mc.Stoichiometry(p_list=(0, 2, 3, 5, 7, 10)).featurize(target),
            *(statistics[statistic, name] for name in MAGPIE_PROPERTIES for statistic in order),
            *mc.ValenceOrbital(props=["frac"]).featurize(target),
            *map(float, mc.IonProperty(data_source=MagpieIons(), fast=True).featurize(target)),
        ]
    features, errors = composition.compute_amounts([amounts(formula)])
    assert errors == [None]
    np.testing.assert_allclose(features[0], expected, rtol=1e-9, atol=1e-12)


def test_known_ionic_compounds() -> None:
    """Sodium chloride is neutral with Na+ and Cl-; magnetite needs two states of iron, which Magpie's rule lacks."""
    features, _ = composition.compute_amounts([amounts("NaCl"), amounts("Fe3O4"), amounts("Fe")])
    assert features[:, LABELS.index("Can Form Ionic Compound")].tolist() == [1.0, 0.0, 1.0]
    # Pauling's formula with chi(Na) = 0.93 and chi(Cl) = 3.16
    assert features[0, LABELS.index("maximum Ionic Character")] == pytest.approx(1 - math.exp(-0.25 * 2.23**2))


def test_multiples_and_order_do_not_matter() -> None:
    batch = [amounts("Fe2O3"), {8: 6, 26: 4}, {8: 0.6, 26: 0.4}]
    features, _ = composition.compute_amounts(batch)
    np.testing.assert_allclose(features[1:], features[[0, 0]], rtol=1e-12)


def test_batch_equals_one_by_one() -> None:
    batch = [amounts(formula) for formula in FORMULAS]
    together, _ = composition.compute_amounts(batch)
    alone = np.vstack([composition.compute_amounts([entry])[0] for entry in batch])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("bad", [{}, {26: 0.0}, {26: -1.0}, {26: math.nan}, {118: 1.0}, {0: 1.0}])
def test_bad_composition_costs_its_own_row(bad: dict[int, float]) -> None:
    features, errors = composition.compute_amounts([amounts("NaCl"), bad])
    assert errors[0] is None and errors[1]
    assert np.isfinite(features[0]).all() and np.isnan(features[1]).all()


def test_the_86_elements_of_elemnet() -> None:
    """The list of section 5.2.1 of the thesis of D. Jha (2020)."""
    listed = [
        "H",
        "Li",
        "Be",
        "B",
        "C",
        "N",
        "O",
        "F",
        "Na",
        "Mg",
        "Al",
        "Si",
        "P",
        "S",
        "Cl",
        "K",
        "Ca",
        "Sc",
        "Ti",
        "V",
        "Cr",
        "Mn",
        "Fe",
        "Co",
        "Ni",
        "Cu",
        "Zn",
        "Ga",
        "Ge",
        "As",
        "Se",
        "Br",
        "Kr",
        "Rb",
        "Sr",
        "Y",
        "Zr",
        "Nb",
        "Mo",
        "Tc",
        "Ru",
        "Rh",
        "Pd",
        "Ag",
        "Cd",
        "In",
        "Sn",
        "Sb",
        "Te",
        "I",
        "Xe",
        "Cs",
        "Ba",
        "La",
        "Ce",
        "Pr",
        "Nd",
        "Pm",
        "Sm",
        "Eu",
        "Gd",
        "Tb",
        "Dy",
        "Ho",
        "Er",
        "Tm",
        "Yb",
        "Lu",
        "Hf",
        "Ta",
        "W",
        "Re",
        "Os",
        "Ir",
        "Pt",
        "Au",
        "Hg",
        "Tl",
        "Pb",
        "Bi",
        "Ac",
        "Th",
        "Pa",
        "U",
        "Np",
        "Pu",
    ]
    assert [chemical_symbols[number] for number in fractions.ELEMENTS] == listed


def test_fractions() -> None:
    features, errors = fractions.compute_amounts([amounts("Fe2O3"), amounts("ArNe"), {}])
    assert errors[0] is None and "Ne" in errors[1] and errors[2]
    labels = fractions.feature_labels()
    assert features[0, labels.index("fraction of Fe")] == pytest.approx(0.4)
    assert features[0, labels.index("fraction of O")] == pytest.approx(0.6)
    assert features[0].sum() == pytest.approx(1.0)
    assert np.isnan(features[1:]).all()


def test_descriptors_side_by_side() -> None:
    structures = [Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 5.6, 5.6], pbc=True)] * 3
    structures[1] = Atoms("ArCl", structures[0].positions, cell=[5.6] * 3, pbc=True)
    combined = get_descriptor("composition+fractions")
    features, errors = combined.compute(structures)
    assert features.shape == (3, 145 + 86) == (3, len(combined.labels))
    with pytest.raises(DescriptorError, match="Got 0"):
        combined.compute(structures, n_jobs=0)
    assert errors[0] is None and "Ar" in errors[1] and errors[2] is None
    assert np.isnan(features[1]).all()
    parallel, parallel_errors = combined.compute(structures, n_jobs=2)
    np.testing.assert_array_equal(parallel, features)
    assert parallel_errors == errors
    assert amounts_of(structures)[0] == {atomic_numbers["Na"]: 1, atomic_numbers["Cl"]: 1}


def test_unknown_descriptor() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ward2017'"):
        get_descriptor("ward2107")
