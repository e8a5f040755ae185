"""The featurizers of descriptors: what each one computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from matminer.featurizers.base import BaseFeaturizer
from pymatgen.core import Composition, Molecule

from ase_matprop.compositions import as_amounts
from ase_matprop.descriptors import composition, fractions, ward2017
from ase_matprop.errors import CompositionError, DescriptorError, StructureError
from ase_matprop.featurizers import ElementFractions, MagpieComposition, Ward2017
from tests.featurizers.crystals import DISORDERED, NACL


def test_ward2017() -> None:
    values = Ward2017().featurize(NACL)
    assert len(values) == 271
    expected, _ = ward2017.compute([bulk("NaCl", "rocksalt", 5.64)])
    np.testing.assert_allclose(values, expected[0], atol=2e-4)
    assert Ward2017().feature_labels() == ward2017.feature_labels()
    assert all("@article" in citation and "doi" in citation for citation in Ward2017().citations())
    with pytest.raises(StructureError, match="disorder"):
        Ward2017().featurize(DISORDERED)
    assert not Ward2017().precheck(DISORDERED)
    with pytest.raises(StructureError, match="row 1: is a formula, and these features need the structure"):
        Ward2017().featurize_many([NACL, "NaCl"], pbar=False)
    with pytest.raises(StructureError, match="row 0: is a Composition"):
        Ward2017().featurize_many([Composition("NaCl")], pbar=False)
    with pytest.raises(StructureError, match="row 0: is a list"):  # a cell with a list is not a row of one structure
        Ward2017().featurize_many(pd.Series([[NACL]]), pbar=False)


FORMULAS = ["NaCl", "Fe2O3", "Ag0.48Mg0.52"]


@pytest.mark.parametrize(
    ("featurizer", "module", "n_features"),
    [(MagpieComposition(), composition, 145), (ElementFractions(), fractions, 86)],
)
def test_features_of_compositions(featurizer: BaseFeaturizer, module, n_features: int) -> None:
    expected, _ = module.compute_amounts([as_amounts(formula) for formula in FORMULAS])
    assert featurizer.feature_labels() == module.feature_labels() and expected.shape == (3, n_features)
    for column in (FORMULAS, [Composition(formula) for formula in FORMULAS]):
        frame = pd.DataFrame({"composition": column})
        result = featurizer.featurize_dataframe(frame, "composition", pbar=False)
        np.testing.assert_allclose(result[featurizer.feature_labels()], expected, rtol=1e-9, atol=1e-12)
    assert all("@article" in citation and "doi" in citation for citation in featurizer.citations())
    with pytest.raises(CompositionError, match="row 1: 'Xx2' is no formula: Xx is no element"):
        featurizer.featurize_many(["NaCl", "Xx2"])
    with pytest.raises(DescriptorError, match="row 0"):
        featurizer.featurize_many(["FlO"])


@pytest.mark.parametrize("featurizer", [MagpieComposition(), ElementFractions()])
def test_multiples_of_a_formula_and_whatever_has_a_composition(featurizer: BaseFeaturizer) -> None:
    """The number of formula units does not matter, nor what the composition comes from."""
    same = ["Fe2O3", "Fe4O6", "O3Fe2", "Fe0.4O0.6", {"O": 6, "Fe": 4}, Composition("Fe2O3")]
    table = np.array(featurizer.featurize_many(same, pbar=False))
    np.testing.assert_allclose(table, table[[0] * len(same)], rtol=1e-9, atol=1e-12)
    salt = featurizer.featurize("NaCl")
    for obj in (NACL, bulk("NaCl", "rocksalt", 5.64), Molecule(["Na", "Cl"], [[0, 0, 0], [0, 0, 2.4]])):
        np.testing.assert_allclose(featurizer.featurize(obj), salt, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(featurizer.featurize(DISORDERED), featurizer.featurize("CuNi"), rtol=1e-9, atol=1e-12)


def test_element_fractions_add_up() -> None:
    table = pd.DataFrame(
        ElementFractions().featurize_many(FORMULAS, pbar=False), columns=ElementFractions().feature_labels()
    )
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert table["fraction of O"].tolist() == pytest.approx([0.0, 0.6, 0.0])


def test_sodium_nitride_is_no_gap(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("formula\nNaN\nNaCl\n")
    whole = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    fractions_of = ElementFractions().featurize_dataframe(whole, "formula", pbar=False)
    assert fractions_of["fraction of N"].tolist() == [0.5, 0.0]
    gap = pd.read_csv(tmp_path / "t.csv")
    with pytest.raises(CompositionError, match="row 0: is nan, a gap in a table.*keep_default_na"):
        ElementFractions().featurize_dataframe(gap, "formula", pbar=False)
