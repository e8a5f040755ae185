"""Errors of predictions, over a set and over chemically meaningful parts of it."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, recall_score, roc_auc_score

from ase_matprop.models.card import ClassificationSummary, ErrorSummary

FloatArray = NDArray[np.float64]


def summarize(predicted: FloatArray, reference: FloatArray) -> ErrorSummary:
    """Return mean, median, 90th percentile and root mean square of the absolute errors."""
    errors = np.abs(predicted - reference)
    return ErrorSummary(
        n=len(errors),
        mae=float(errors.mean()),
        median=float(np.median(errors)),
        percentile_90=float(np.percentile(errors, 90)),
        rmse=float(np.sqrt((errors**2).mean())),
    )


def summarize_groups(
    predicted: FloatArray, reference: FloatArray, numbers: NDArray[np.int64], new_formula: NDArray[np.bool_]
) -> dict[str, ErrorSummary]:
    """Return the errors by number of elements, with and without oxygen, and for new and known formulas.

    Args:
        predicted: shape (n,).
        reference: shape (n,).
        numbers: atomic numbers of the elements of each row, 0 in unused slots, shape (n, n_slots).
        new_formula: whether no training row has the reduced formula, shape (n,).
    """
    n_elements = (numbers > 0).sum(axis=1)
    oxide = (numbers == atomic_numbers["O"]).any(axis=1) & (n_elements > 1)
    groups = {f"{n} element{'s' if n > 1 else ''}": n_elements == n for n in range(1, 6)}
    groups |= {
        "6 or more elements": n_elements >= 6,
        "oxides": oxide,
        "compounds without O": ~oxide & (n_elements > 1),
        "formulas not in training": new_formula,
        "formulas in training": ~new_formula,
    }
    return {name: summarize(predicted[rows], reference[rows]) for name, rows in groups.items() if rows.any()}


def summarize_classes(probabilities: FloatArray, reference: NDArray[np.int64]) -> ClassificationSummary:
    """Return accuracies, area under the ROC curve, cross entropy and confusion matrix.

    Args:
        probabilities: shape (n, n_classes).
        reference: number of the true class of each row, shape (n,).
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    present = np.unique(reference)
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities
    area = roc_auc_score(reference, scores, multi_class="ovr") if len(present) == len(classes) else None
    return ClassificationSummary(
        n=len(reference),
        accuracy=float(accuracy_score(reference, predicted)),
        balanced_accuracy=float(recall_score(reference, predicted, labels=present, average="macro")),
        roc_auc=None if area is None else float(area),
        log_loss=float(log_loss(reference, probabilities, labels=classes)),
        confusion=confusion_matrix(reference, predicted, labels=classes).tolist(),
    )
