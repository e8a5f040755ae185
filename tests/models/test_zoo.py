"""The shipped models: sizes, what they say of well-known compounds, and what holds for every one of them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from ase_matprop import list_models, load_model
from ase_matprop.models.registry import read_card

# Formation energies in eV/atom.  Materials Project: MgO mp-1265 and NaCl mp-22862 stand in ../shared/data/README.md,
# the others on materialsproject.org; OQMD: oqmd.org; measured: Kim et al., Sci. Data 4, 170162 (2017)
KNOWN = {"MgO": -3.06, "NaCl": -2.11, "CaF2": -4.2, "TiO2": -3.47, "NiAl": -0.65}
KNOWN_BY_MODEL = {
    "elemnet-oqmd": {"MgO": -2.95},
    "elemnet-experimental": {"NiAl": -0.69, "HfPt": -1.18, "LaNi5": -0.27},
}
ENERGIES = [name for name in list_models() if read_card(name).property == "formation_energy_per_atom"]
FORMULAS = [name for name in list_models() if read_card(name).descriptor.name in ("fractions", "composition+fractions")]


def test_all_models_together_are_small() -> None:
    assert sum((folder / "weights.safetensors").stat().st_size for folder in list_models().values()) < 100_000_000


@pytest.mark.parametrize("name", [name for name in ENERGIES if name in FORMULAS])
def test_known_formation_energies_of_formulas(name: str) -> None:
    known = KNOWN_BY_MODEL.get(name, KNOWN)
    predictions = load_model(name).predict(list(known))
    assert predictions.n_failed == 0
    np.testing.assert_allclose(predictions.values, list(known.values()), atol=0.25)


@pytest.mark.parametrize("name", [name for name in ENERGIES if name not in FORMULAS])
def test_known_formation_energies_of_structures(name: str) -> None:
    structures = [
        bulk("MgO", "rocksalt", 4.21),
        bulk("NaCl", "rocksalt", 5.64),
        bulk("CaF2", "fluorite", 5.463),
        bulk("NiAl", "cesiumchloride", 2.887),
    ]
    known = [KNOWN[name] for name in ("MgO", "NaCl", "CaF2", "NiAl")]
    np.testing.assert_allclose(load_model(name).predict(structures).values, known, atol=0.25)


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_amounts(name: str) -> None:
    """Order, multiples and the batch do not matter."""
    model = load_model(name)
    values = model.predict(["LaNi5Ti", "TiLaNi5", "La2Ni10Ti2", "(LaTi)(Ni)5", "HfPt"]).values
    np.testing.assert_allclose(values[:4], model.predict("LaNi5Ti").values[0], atol=1e-5)


def test_band_gaps() -> None:
    """Metals have none; MgO has 4.4 eV in the generalised gradient approximation (Materials Project, mp-1265)."""
    values = load_model("irnet17-bandgap-oqmd").predict(["Cu3Au", "NiAl", "FeCo", "MgO"]).values
    assert (values >= 0.0).all()
    assert values[:3].max() < 0.05
    assert values[3] == pytest.approx(4.4, abs=0.8)


@pytest.mark.skipif("metal-classifier-mp" not in list_models(), reason="not shipped")
def test_metals_and_non_metals() -> None:
    structures = [
        bulk("Cu"),
        bulk("NiAl", "cesiumchloride", 2.887),
        bulk("MgO", "rocksalt", 4.21),
        bulk("NaCl", "rocksalt", 5.64),
    ]
    predictions = load_model("metal-classifier-mp").predict(structures)
    assert predictions.labels == ["metal", "metal", "non-metal", "non-metal"]
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1.0, atol=1e-6)
