import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from ase_matprop.errors import MatPropError, UnknownElementError
from ase_matprop.screening.spaces.substitutions import SubstitutionSpace
from ase_matprop.structures.prototypes import get_prototype


def entries(space):
    return [entry for shard in range(space.n_shards) for entry in space.entries(shard)]


def formulas(space):
    return sorted(entry.formula for entry in entries(space))


@pytest.fixture
def hematite(tmp_path):
    path = tmp_path / "Fe2O3.cif"
    get_prototype("corundum").decorate({"A": "Fe", "B": "O"}, volume=10.06).write(path)
    return path


@pytest.fixture
def rocksalt():
    def make(first, second, volume=10.0):
        return get_prototype("B1").decorate({"A": first, "B": second}, volume=volume)

    return make


RULES = {"Fe": ["Co", "Ni"], "O": ["S", "Se"]}


def test_all_combinations_without_the_original(hematite):
    space = SubstitutionSpace(hematite, RULES)
    wanted = {(a, b) for a, b in itertools.product(["Fe", "Co", "Ni"], ["O", "S", "Se"])} - {("Fe", "O")}
    assert space.n_candidates == 8
    found = entries(space)
    assert {tuple(dict.fromkeys(sorted(entry.atoms.get_chemical_symbols()))) for entry in found} == {
        tuple(sorted(pair)) for pair in wanted
    }
    assert [entry.name for entry in found][:3] == [f"{hematite} Fe={end}" for end in ("Co O=O", "Ni O=O", "Fe O=S")]
    assert len({entry.name for entry in found}) == 8
    assert space.elements == {8, 16, 34, 26, 27, 28}
    assert SubstitutionSpace(hematite, RULES, keep_original=True).n_candidates == 9
    assert SubstitutionSpace(hematite, RULES, partial=False).n_candidates == 4
    assert SubstitutionSpace(hematite, RULES, partial=False, keep_original=True).n_candidates == 5


def test_composition_shape_and_volume(hematite):
    original = SubstitutionSpace(hematite, {"Fe": ["Ti", "Cr"]}, keep_original=True)
    kept = {entry.formula: entry.atoms for entry in entries(original)}
    volumes = {formula: atoms.get_volume() for formula, atoms in kept.items()}
    # as it was, to the digits of the file
    assert volumes["Fe4O6"] == pytest.approx(10 * 10.06, rel=1e-5)
    # eskolaite has 96.0, rhombohedral Ti2O3 104.4 Angstrom^3 in experiment
    assert volumes["Cr4O6"] == pytest.approx(96.0, rel=0.08)
    assert volumes["Ti4O6"] == pytest.approx(104.4, rel=0.2)
    for atoms in kept.values():
        np.testing.assert_allclose(atoms.get_scaled_positions(), kept["Fe4O6"].get_scaled_positions(), atol=1e-9)
        np.testing.assert_allclose(atoms.cell.angles(), kept["Fe4O6"].cell.angles(), atol=1e-9)
        distances = atoms.get_all_distances(mic=True)[~np.eye(len(atoms), dtype=bool)]
        assert distances.min() > 1.6
    same = SubstitutionSpace(hematite, {"Fe": ["Ti"]}, volume="keep")
    assert entries(same)[0].atoms.get_volume() == pytest.approx(volumes["Fe4O6"])
    larger = SubstitutionSpace(hematite, {"Fe": ["Ti"]}, volume="keep", volume_factor=1.1)
    assert entries(larger)[0].atoms.get_volume() == pytest.approx(1.1 * volumes["Fe4O6"])
    radii = SubstitutionSpace(hematite, {"Fe": ["Ti"]}, volume="radii")
    assert entries(radii)[0].atoms.get_volume() != pytest.approx(volumes["Ti4O6"])


def test_what_two_files_both_give_is_given_once(rocksalt):
    # CoO from FeO and from NiO, in another cell and at another volume
    conventional = get_prototype("B1").decorate({"A": "Ni", "B": "O"}, volume=9.2, conventional=True)
    space = SubstitutionSpace([rocksalt("Fe", "O"), conventional], {"Fe": ["Co", "Mn"], "Ni": ["Co"]})
    assert formulas(space) == ["CoO", "MnO"]
    # not so for another structure
    zincblende = get_prototype("B3").decorate({"A": "Ni", "B": "O"}, volume=12.0)
    assert len(formulas(SubstitutionSpace([rocksalt("Fe", "O"), zincblende], {"Fe": ["Co"], "Ni": ["Co"]}))) == 2


def test_equivalent_replacements_of_one_file_are_given_once(rocksalt):
    rules = {"Fe": ["Co", "O"], "O": ["Fe", "Co"]}
    space = SubstitutionSpace(rocksalt("Fe", "O"), rules, keep_original=True)
    found = [AseAtomsAdaptor().get_structure(entry.atoms) for entry in entries(space)]
    # Fe and O each become Fe, Co or O: of nine, CoO = OCo, FeCo = CoFe, FeO = OFe
    assert len(found) == 6
    assert len(StructureMatcher(scale=True).group_structures(found)) == len(found)


def test_two_elements_may_become_one():
    spinel = get_prototype("spinel").decorate({"A": "Co", "B": "Fe", "C": "O"}, volume=10.5)
    space = SubstitutionSpace(spinel, {"Fe": ["Co"]})
    assert formulas(space) == ["Co6O8"]


def test_shards(hematite):
    whole = [entry.name for entry in entries(SubstitutionSpace(hematite, RULES))]
    space = SubstitutionSpace(hematite, RULES, shard_size=3)
    assert space.n_shards == 3
    assert [space.shard_size(shard) for shard in range(3)] == [3, 3, 2]
    assert [entry.name for entry in space.entries(1)] == whole[3:6]
    with pytest.raises(MatPropError, match="no shard 3"):
        space.shard_size(3)


def test_faulty_files_are_failures_and_the_others_are_used(tmp_path, hematite):
    site = {"Fe": 0.5, "Co": 0.5}
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), [site, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(
        filename=str(tmp_path / "disordered.cif")
    )
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a 3\n")
    write(tmp_path / "NaCl.cif", get_prototype("B1").atoms())
    write(tmp_path / "XeO.cif", get_prototype("B1").decorate({"A": "Xe", "B": "O"}, volume=15.0))
    space = SubstitutionSpace(tmp_path, {"Fe": ["Co"], "O": ["S"]}, shard_size=2)
    failed = {entry.name.rsplit("/", 1)[-1]: entry.error for entry in entries(space) if entry.error}
    assert set(failed) == {"disordered.cif", "broken.cif", "NaCl.cif", "XeO.cif"}
    assert "none of O, Fe" in failed["NaCl.cif"] or "none of Fe, O" in failed["NaCl.cif"]
    assert "volume='keep'" in failed["XeO.cif"]
    assert "disorder" in failed["disordered.cif"] or "occup" in failed["disordered.cif"]
    assert len(space.failures) == 4
    assert space.n_candidates == 3 + 4
    kept = SubstitutionSpace(tmp_path, {"Fe": ["Co"], "O": ["S"]}, volume="keep")
    assert len(kept.failures) == 3


def test_nothing_that_is_given_is_changed(rocksalt):
    atoms = rocksalt("Fe", "O")
    atoms.info["mine"] = 1
    before, rules = atoms.copy(), {"Fe": ["Co"]}
    for entry in entries(SubstitutionSpace([atoms], rules)):
        entry.atoms.positions += 1.0
    assert atoms == before
    assert atoms.info == {"mine": 1}
    assert rules == {"Fe": ["Co"]}


def test_description_tells_spaces_apart(hematite, rocksalt):
    made = [
        SubstitutionSpace(hematite, RULES),
        SubstitutionSpace(hematite, {"Fe": ["Co"]}),
        SubstitutionSpace(hematite, RULES, volume="keep"),
        SubstitutionSpace(hematite, RULES, volume_factor=1.1),
        SubstitutionSpace(hematite, RULES, keep_original=True),
        SubstitutionSpace(rocksalt("Fe", "O"), RULES),
        SubstitutionSpace(rocksalt("Fe", "O", 11.0), RULES),
    ]
    described = [space.describe() for space in made]
    assert all(first != second for first, second in itertools.combinations(described, 2))
    assert SubstitutionSpace(hematite, RULES).describe() == described[0]


@pytest.mark.parametrize(
    ("rules", "arguments", "error", "message"),
    [
        ({}, {}, MatPropError, "rules must map"),
        (["Fe"], {}, MatPropError, "rules must map"),
        ({"Fe": []}, {}, MatPropError, "empty"),
        ({"Fe": ["Fe"]}, {}, MatPropError, "by itself"),
        ({"Fe": ["Xx"]}, {}, UnknownElementError, "'Xx'"),
        ({"Xx": ["Fe"]}, {}, UnknownElementError, "'Xx'"),
        ({"Cu": ["Fe"]}, {}, MatPropError, "none of the structures can be substituted.*has O, Fe, and none of Cu"),
        ({"Fe": ["Kr"]}, {}, MatPropError, "knows nothing of Kr"),
        ({"Fe": ["Co"]}, {"volume_factor": -1.0}, MatPropError, "volume_factor"),
        ({"Fe": ["Co"]}, {"shard_size": 0}, MatPropError, "shard_size"),
    ],
)
def test_bad_input_is_explained(hematite, rules, arguments, error, message):
    with pytest.raises(error, match=message):
        SubstitutionSpace(hematite, rules, **arguments)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MatPropError, match="none of the structures can be substituted"):
        SubstitutionSpace(tmp_path / "nothing.cif", {"Fe": ["Co"]})
    with pytest.raises(MatPropError, match="no structure was given"):
        SubstitutionSpace([], {"Fe": ["Co"]})


def test_molecule_in_a_cell_keeps_its_volume():
    water = Atoms("OH2", [[5, 5, 5], [5.8, 5.6, 5], [4.2, 5.6, 5]], cell=[10] * 3, pbc=True)
    (entry,) = entries(SubstitutionSpace([water], {"O": ["S"]}, volume="keep"))
    assert entry.atoms.get_volume() == pytest.approx(1000.0)


def test_a_moved_folder_is_the_same_space(tmp_path, rocksalt, monkeypatch):
    for folder in ("here", "there/deep"):
        (tmp_path / folder / "cifs").mkdir(parents=True)
        rocksalt("Fe", "O").write(tmp_path / folder / "cifs/a.cif")
        (tmp_path / folder / "cifs/b.cif").write_text("data_x\n")
    rules = {"Fe": ["Co", "Ni"]}

    def described(*given):
        return SubstitutionSpace(given[0] if len(given) == 1 else iter(given), rules).describe()

    here, there = tmp_path / "here", tmp_path / "there/deep"
    assert described(here / "cifs") == described(str(there / "cifs")) == described(str(here / "cifs/*"))
    assert described(here / "cifs") == described(here / "cifs/a.cif", here / "cifs/b.cif")
    assert [source["name"] for source in described(here)["sources"]] == ["cifs/a.cif", "cifs/b.cif"]
    assert str(tmp_path) not in str(described(here / "cifs/a.cif", here / "cifs/none.cif"))
    monkeypatch.chdir(here)
    assert described("cifs") == described(there / "cifs") and described(".") == described(there)
    (there / "cifs/a.cif").rename(there / "cifs/c.cif")
    assert described(there / "cifs") != described(here / "cifs")


def test_of_many_files_only_similar_cells_are_matched(monkeypatch):
    """Thirty tetragonal cells of one composition, of which pairs beside one another are one crystal."""
    calls = []
    fit = StructureMatcher.fit
    monkeypatch.setattr(StructureMatcher, "fit", lambda *args, **more: calls.append(1) or fit(*args, **more))
    ratios = np.repeat(1.3 ** np.arange(3, 18), 2)
    files = [
        Atoms("FeO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[3.0, 3.0, 3.0 * ratio], pbc=True).repeat(
            (1 + number % 2, 1, 1)
        )
        for number, ratio in enumerate(ratios)
    ]
    space = SubstitutionSpace(files, {"Fe": ["Co", "Ni"]})
    assert space.n_candidates == 2 * 15 and {entry.formula for entry in entries(space)} == {"CoO", "NiO"}
    assert len(calls) < 50  # of 120 pairs of the same formula
