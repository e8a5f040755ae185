"""All orderings of Ni and Al on the fcc and bcc lattices up to six atoms, ranked by two models, with the convex hull.

python examples/enumeration/run.py [FIGURE.png]
"""

import sys
import time
from collections.abc import Iterator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import spglib
from ase import Atoms
from ase.build import bulk
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Lattice, Structure

from ase_matprop import load_model
from ase_matprop.workflows import orderings, rank

try:
    from icet.tools import enumerate_structures
except ImportError:
    enumerate_structures = None
    print("icet is not installed (pip install 'ase-matprop[workflows]'): orderings of the cubic cells only")

MODELS = ("irnet17-mp", "schnet-mp")
LARGEST = 6
#: orderings closer than this (eV/atom) are the same to a model
EQUAL = 1e-4
#: volume per atom of the elements in Angstrom^3, from their measured lattice parameters 3.524 and 4.050
VOLUMES = {"Ni": 3.524**3 / 4, "Al": 4.050**3 / 4}
#: volumes do not just add up (Vegard's law): B2 NiAl, a = 2.887, has 0.87 of that volume, L1_2 Ni3Al, a = 3.572, 0.92
BOWING = 0.5
#: space group of the ordering on its lattice, in its primitive cell -> name
KNOWN = {
    ("fcc", 225, 1): "fcc", ("fcc", 123, 2): "L1_0 (CuAu)", ("fcc", 166, 2): "L1_1 (CuPt)", ("fcc", 71, 3): "MoPt2",
    ("fcc", 221, 4): "L1_2 (Cu3Au)", ("bcc", 229, 1): "bcc", ("bcc", 221, 2): "B2 (CsCl)",
    ("bcc", 139, 3): "C11_b (MoSi2)",
}  # fmt: skip


def parents() -> Iterator[tuple[str, Atoms]]:
    """Yield every ordering on both lattices, whatever its volume."""
    for lattice, a in (("fcc", 3.6), ("bcc", 2.9)):
        if enumerate_structures is not None:
            for atoms in enumerate_structures(bulk("Ni", lattice, a), range(1, LARGEST + 1), ["Ni", "Al"]):
                yield lattice, atoms
            continue
        cube = bulk("Ni", lattice, a, cubic=True)
        cube = cube if lattice == "fcc" else cube * (2, 1, 1)
        for n_al in range(len(cube) + 1):
            occupancies = [{"Ni": 1 - n_al / len(cube), "Al": n_al / len(cube)}] * len(cube)
            disordered = Structure(Lattice(cube.cell), occupancies, cube.get_scaled_positions())
            ordered = [disordered] if disordered.is_ordered else orderings(disordered)
            for structure in ordered:
                yield lattice, structure.to_ase_atoms()


def cells() -> Iterator[Atoms]:
    """Yield each ordering at the volume that its composition makes likely; nothing is relaxed."""
    for number, (lattice, atoms) in enumerate(parents()):
        x = (atoms.symbols == "Al").mean()
        volume = sum(VOLUMES[symbol] for symbol in atoms.symbols) * (1 - BOWING * x * (1 - x))
        atoms.set_cell(atoms.cell * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        atoms.info["name"] = f"{lattice} {number}"
        yield atoms


def name_of(atoms: Atoms) -> str:
    lattice = atoms.info["name"].split()[0]
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    group = spglib.get_symmetry_dataset(cell, symprec=1e-3)
    n_atoms = len(spglib.find_primitive(cell, symprec=1e-3)[2])
    return KNOWN.get((lattice, group.number, n_atoms), f"{group.international} on {lattice}, {n_atoms} atoms")


def hull_of(frame: pd.DataFrame) -> PhaseDiagram:
    """Return the hull; the attribute of an entry is its row.  (Equal entries are one key to a dictionary.)"""
    entries = []
    for row, (formula, energy) in enumerate(zip(frame["formula"], frame["formation_energy_per_atom"], strict=True)):
        composition = Composition(formula)
        entries.append(PDEntry(composition, energy * composition.num_atoms, attribute=row))
    return PhaseDiagram(entries)


figure, panels = plt.subplots(1, len(MODELS), figsize=(10, 4.2), sharey=True)
for model, panel in zip(MODELS, panels, strict=True):
    start = time.perf_counter()
    ranking = rank(cells(), model, keep=None)
    seconds = time.perf_counter() - start
    frame, structures = ranking.to_frame(), ranking.structures
    diagram = hull_of(frame)

    error = load_model(model).card.errors["test"].mae
    print(f"\n{model}: {ranking.n_seen} orderings in {seconds:.1f} s; error on the test set {error:.3f} eV/atom")
    print(f"  {'ground state':14s} {'ordering':28s} {'eV/atom':>8s} {'gap to the next ordering':>26s}")
    on_hull = sorted(diagram.stable_entries, key=lambda entry: entry.composition.get_atomic_fraction("Al"))
    for entry in on_hull:
        formula = entry.composition.reduced_formula
        same = [other for other in diagram.all_entries if other.composition.reduced_formula == formula]
        above = sorted((other.energy_per_atom - entry.energy_per_atom, other.attribute) for other in same)
        names = [name_of(structures[row]) for difference, row in above if difference < EQUAL]
        gaps = [f"{1000 * difference:.0f} meV/atom" for difference, _ in above if difference >= EQUAL]
        formation = diagram.get_form_energy_per_atom(entry)
        print(f"  {formula:14s} {names[0]:28s} {formation:8.3f} {(gaps or ['the only one'])[0]:>26s}")
        for name in names[1:]:
            print(f"  {'':14s} {name:28s} equal")
    for entry in diagram.unstable_entries:
        name, above = name_of(structures[entry.attribute]), diagram.get_e_above_hull(entry)
        if name in ("B2 (CsCl)", "L1_2 (Cu3Au)", "L1_0 (CuAu)") and above >= EQUAL:
            print(f"  not on the hull: {entry.composition.reduced_formula} {name}, {1000 * above:.0f} meV/atom above")

    for lattice, marker, color in (("fcc", "o", "tab:blue"), ("bcc", "s", "tab:orange")):
        chosen = [entry for entry in diagram.all_entries if frame["name"][entry.attribute].startswith(lattice)]
        x = [entry.composition.get_atomic_fraction("Al") for entry in chosen]
        y = [diagram.get_form_energy_per_atom(entry) for entry in chosen]
        panel.plot(x, y, marker, color=color, markersize=3.5, alpha=0.6, label=f"orderings on {lattice}", linewidth=0)
    x = [entry.composition.get_atomic_fraction("Al") for entry in on_hull]
    y = [diagram.get_form_energy_per_atom(entry) for entry in on_hull]
    panel.plot(x, y, "k-", linewidth=1)
    panel.plot(x, y, "ko", markersize=8, markerfacecolor="none", label="convex hull")
    panel.set(title=model, xlabel="Al content", xlim=(-0.03, 1.03))
    panel.axhline(0, color="grey", linewidth=0.5)
panels[0].set_ylabel("formation energy (eV/atom)")
panels[0].legend(frameon=False)
figure.tight_layout()
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=110)
    print(f"\nfigure in {sys.argv[1]}")
