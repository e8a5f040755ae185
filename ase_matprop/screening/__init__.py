"""Screening: search spaces of formulas and structures, scored, and ranked by their distance to the convex hull."""

from ase_matprop.screening.discovery import DiscoveryMetrics, discovery_metrics, precision_recall_curve
from ase_matprop.screening.hull.diagrams import HullPair, phase_diagram_figure, write_phase_diagram
from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.references import References, read_references
from ase_matprop.screening.hull.stability import stability_table
from ase_matprop.screening.report import write_report
from ase_matprop.screening.results import Results, SystemPattern
from ase_matprop.screening.run import ScreeningProgress, prepare, screen
from ase_matprop.screening.scoring import FormulaScorer
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.spaces.base import FormulaBlock, Space
from ase_matprop.screening.spaces.charges import ChargeRules, charge_balanced
from ase_matprop.screening.spaces.formulas import FormulaSpace
from ase_matprop.screening.spaces.lists import FormulaList, StructureList
from ase_matprop.screening.spaces.prototypes import PrototypeSpace
from ase_matprop.screening.spaces.substitutions import SubstitutionSpace
from ase_matprop.screening.structures import candidate_structures, write_structures
from ase_matprop.screening.workers import Workers

__all__ = [
    "ChargeRules",
    "DiscoveryMetrics",
    "FormulaBlock",
    "FormulaList",
    "FormulaScorer",
    "FormulaSpace",
    "HullPair",
    "PrototypeSpace",
    "ReferenceHull",
    "References",
    "Results",
    "ScreeningProgress",
    "ScreeningSettings",
    "Space",
    "StructureList",
    "SubstitutionSpace",
    "SystemPattern",
    "Workers",
    "candidate_structures",
    "charge_balanced",
    "discovery_metrics",
    "phase_diagram_figure",
    "precision_recall_curve",
    "prepare",
    "read_references",
    "screen",
    "stability_table",
    "write_phase_diagram",
    "write_report",
    "write_structures",
]
