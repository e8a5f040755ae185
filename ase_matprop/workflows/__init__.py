"""Models inside other people's scripts: enumerations, SQS searches, generators, ASE databases.

    from ase_matprop.workflows import rank, sort_criteria

    EnumerateStructureTransformation(max_cell_size=4, sort_criteria=sort_criteria("irnet17-mp"), n_jobs=1)
    rank(icet.tools.enumerate_structures(parent, range(1, 9), ["Ni", "Al"]), "irnet17-mp", keep=20).to_frame()

Everything here takes the name of a shipped model or the path of a model folder, reads it once in a process, can be
sent to worker processes, and holds one batch of structures at a time.
"""

from ase_matprop.workflows.database import DatabasePredictions, add_predictions
from ase_matprop.workflows.loading import cached_model
from ase_matprop.workflows.orderings import orderings, rank_orderings
from ase_matprop.workflows.ranking import Ranking, rank
from ase_matprop.workflows.scoring import ScoringFunction, SortCriteria, scoring_function, sort_criteria
from ase_matprop.workflows.streaming import Prediction, PredictionBatch, iter_prediction_batches, iter_predictions
from ase_matprop.workflows.writing import WrittenPredictions, write_predictions

__all__ = [
    "DatabasePredictions",
    "Prediction",
    "PredictionBatch",
    "Ranking",
    "ScoringFunction",
    "SortCriteria",
    "WrittenPredictions",
    "add_predictions",
    "cached_model",
    "iter_prediction_batches",
    "iter_predictions",
    "orderings",
    "rank",
    "rank_orderings",
    "scoring_function",
    "sort_criteria",
    "write_predictions",
]
