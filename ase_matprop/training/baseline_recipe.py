"""Recipes of baselines: which of scikit-learn's estimators, and the grids of their parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, field_validator, model_validator
from sklearn.base import clone
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import ParameterGrid
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ase_matprop.descriptors.neighbors import NAME as NEIGHBORS
from ase_matprop.errors import unknown_name
from ase_matprop.training.recipe import DataRecipe, Section

#: name in recipes -> estimator of a number; a grid reaches the trees of an ensemble as ``estimator__max_depth``
REGRESSORS: dict[str, Any] = {
    "adaboost": AdaBoostRegressor(DecisionTreeRegressor(max_depth=3)),
    "bagging": BaggingRegressor(DecisionTreeRegressor()),
    "decision_tree": DecisionTreeRegressor(),
    "elastic_net": ElasticNet(),
    "extra_trees": ExtraTreesRegressor(),
    "k_neighbors": KNeighborsRegressor(),
    "lasso": Lasso(),
    "linear": LinearRegression(),
    "random_forest": RandomForestRegressor(),
    "ridge": Ridge(),
    "sgd": SGDRegressor(),
    "svr": SVR(),
}
#: name in recipes -> estimator of a class; all of them give probabilities
CLASSIFIERS: dict[str, Any] = {
    "adaboost": AdaBoostClassifier(DecisionTreeClassifier(max_depth=1)),
    "bagging": BaggingClassifier(DecisionTreeClassifier()),
    "decision_tree": DecisionTreeClassifier(),
    "extra_trees": ExtraTreesClassifier(),
    "k_neighbors": KNeighborsClassifier(),
    "logistic_regression": LogisticRegression(),
    "naive_bayes": GaussianNB(),
    "random_forest": RandomForestClassifier(),
    "sgd": SGDClassifier(loss="log_loss"),
}


class BaselineSection(Section):
    """An estimator, its fixed ``settings`` and the ``grid`` (parameter -> values) that is searched.

    Parameters are those of the scikit-learn estimator.  ``train_rows`` trains a slow method on only so many of the
    training rows, chosen at random.
    """

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    train_rows: int | None = Field(None, ge=2)

    @field_validator("settings", "grid")
    @classmethod
    def _finite(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for name, given in parameters.items():
            values = given if isinstance(given, list) else [given]
            if not values:
                raise ValueError(f"{name} has no value")
            for value in values:
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"{name} must be finite. Got {value!r}.")
        return parameters

    @model_validator(mode="after")
    def _fixed_or_searched(self) -> Self:
        both = sorted(set(self.settings) & set(self.grid))
        if both:
            raise ValueError(f"{both[0]!r} stands in settings and in grid")
        return self

    def points(self) -> Iterator[dict[str, Any]]:
        """The parameters of each point of the grid, in a fixed order; a single one without a grid."""
        return (self.settings | point for point in ParameterGrid(self.grid))


class BaselineRecipe(DataRecipe):
    """Baselines on the rows, the split and the features of a training recipe."""

    baseline: list[BaselineSection] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_fitted(self) -> Self:
        if self.data.further_properties:
            raise ValueError("data.further_properties: a baseline learns one property")
        if self.descriptor.name == NEIGHBORS:
            raise ValueError(f"descriptor.name: {NEIGHBORS!r} gives graphs, a baseline needs feature vectors")
        names = [section.name for section in self.baseline]
        for section in self.baseline:
            if names.count(section.name) > 1:
                raise ValueError(f"baseline {section.name} stands twice; write all values into one grid")
            _check_parameters(section, bool(self.data.classes))
        return self


def build_estimator(name: str, parameters: dict[str, Any], classifier: bool, seed: int) -> Any:
    """Return the estimator of :data:`REGRESSORS` or :data:`CLASSIFIERS`, not fitted, with ``seed`` if it draws lots."""
    model = clone((CLASSIFIERS if classifier else REGRESSORS)[name])
    seeded = {"random_state": seed} if "random_state" in model.get_params(deep=False) else {}
    return model.set_params(**(seeded | parameters))


def _check_parameters(section: BaselineSection, classifier: bool) -> None:
    """Find a wrong name or value before anything is computed."""
    kind, known = ("classifier", CLASSIFIERS) if classifier else ("regressor", REGRESSORS)
    if section.name not in known:
        raise unknown_name(kind, section.name, known)
    parameters = known[section.name].get_params()
    for name in (*section.settings, *section.grid):
        if name not in parameters:
            raise unknown_name(f"{section.name} parameter", name, parameters)
    for point in section.points():
        model = build_estimator(section.name, point, classifier, seed=0)
        try:
            model._validate_params()  # with which fit() would begin
        except ValueError as error:
            raise ValueError(f"baseline {section.name}: {error}") from None
        if classifier and not hasattr(model, "predict_proba"):
            raise ValueError(f"baseline {section.name}: gives no probabilities with {json.dumps(point)}")
