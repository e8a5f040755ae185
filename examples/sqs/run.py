"""Special quasirandom structures (SQS) of bcc Ni-Al, scored by two models: what the random alloy costs.

python examples/sqs/run.py
"""

import logging
import sys
import warnings
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.transformations.advanced_transformations import SQSTransformation

from ase_matprop.workflows import iter_prediction_batches, rank_orderings

try:
    from icet import ClusterSpace
    from icet.tools.structure_generation import generate_sqs_from_supercells
except ImportError:
    print("nothing is done: SQS cells need icet, pip install 'ase-matprop[workflows]'")
    sys.exit()

logging.getLogger("icet").setLevel(logging.WARNING)
logging.getLogger("mchammer").setLevel(logging.WARNING)

A_B2 = 2.887  # measured lattice parameter of B2 NiAl in Angstrom, taken for all of these cells
#: supercells of the bcc cube: SQS of 16, 24, 24, 32 and 32 atoms
SHAPES = ((2, 2, 2), (2, 2, 3), (1, 3, 4), (2, 2, 4), (1, 4, 4))
COMPOSITIONS = (0.25, 0.5, 0.75)
MODELS = ("irnet17-mp", "schnet-mp")

cluster_space = ClusterSpace(bulk("Ni", "bcc", A_B2), cutoffs=[6.0, 4.2], chemical_symbols=["Ni", "Al"])
cube = bulk("Ni", "bcc", A_B2, cubic=True)


def sqs_cells() -> Iterator[Atoms]:
    """Yield cells of several shapes for each composition, and the ordered B2 as well."""
    for x in COMPOSITIONS:
        for shape in SHAPES:
            cell = generate_sqs_from_supercells(
                cluster_space, [cube * shape], {"Ni": 1 - x, "Al": x}, n_steps=1500, random_seed=1
            )
            cell.info["name"] = f"Al content {x}"
            yield cell
    yield bulk("NiAl", "cesiumchloride", A_B2)


# the cells are made once, and the generator is read once for each model
cells = list(sqs_cells())
for model in MODELS:
    print(f"{model}, formation energies in eV/atom")
    values = np.concatenate([batch.predictions.values for batch in iter_prediction_batches(cells, model)])
    for number, x in enumerate(COMPOSITIONS):
        of_x = values[number * len(SHAPES) : (number + 1) * len(SHAPES)]
        single = ", ".join(f"{value:.3f}" for value in of_x)
        print(f"  random, Al content {x:.2f}: {of_x.mean():.3f}; the cells: {single}")
    print(f"  ordered, B2 NiAl:        {values[-1]:.3f}")
    random = values[len(SHAPES) : 2 * len(SHAPES)].mean()
    print(f"  ordering of NiAl gains {1000 * (random - values[-1]):.0f} meV/atom")

# pymatgen's SQSTransformation takes no sort_criteria: rank what it returns
disordered = Structure(Lattice.cubic(A_B2), [{"Ni": 0.5, "Al": 0.5}] * 2, [[0, 0, 0], [0.5, 0.5, 0.5]])
transformation = SQSTransformation(
    4, {2: 3, 3: 1}, instances=2, best_only=False, remove_duplicate_structures=False, sqs_method="icet-enumeration"
)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Ignoring unrecognized icet")  # SQSTransformation's own T_start
    ranked_list = transformation.apply_transformation(disordered, return_ranked_list=2)
print("SQSTransformation, ranked by irnet17-mp")
for row in rank_orderings(ranked_list, "irnet17-mp"):
    print(
        f"  {row['structure'].composition.formula}: {row['energy'] / row['num_sites']:.3f} eV/atom, "
        f"objective function {row['objective_function']:.3f}"
    )
