"""A network as a scikit-learn regressor, trained inside of a pipeline, a cross-validation or a grid search."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.errors import RecipeError
from ase_matprop.models import DEFAULT_MODEL
from ase_matprop.models.artefact import Scaler, TargetTransform
from ase_matprop.models.card import ModelCard
from ase_matprop.models.reach import TrainingDistance
from ase_matprop.networks import build_network
from ase_matprop.networks.ensemble import Ensemble, Network
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.training.element_offsets import fit_element_offsets
from ase_matprop.training.loop import Rows, fit
from ase_matprop.training.regressor_inputs import (
    Crystals,
    check_targets,
    crystals_in,
    has_no_rows,
    numbered_groups,
    reach_of,
    read_crystals,
    same_rows,
)
from ase_matprop.training.regressor_model import save_model
from ase_matprop.training.regressor_settings import RegressorSettings, read_settings
from ase_matprop.training.trainer import HISTORY

_ARRAYS_AT_ONCE, _GRAPHS_AT_ONCE = 4096, 256
_FEWEST_ROWS = 3  # two to learn from, since batch normalisation needs a spread, and one to validate


class NetworkRegressor(RegressorMixin, BaseEstimator):
    """A network of this package as a scikit-learn regressor.

    ``X`` is a table of numbers, such as a featurizer makes, or structures or compositions, of which the descriptor of
    the recipe is computed.  The network is trained from random weights by the package's own training loop, with the
    network, the scaling of its inputs and the training settings of a recipe; whatever a recipe says of its rows (split,
    outliers, exclusions) does not apply, since all rows of ``X`` are used.  A share of them is held out: the weights
    of the epoch with the lowest error on these are kept.  Structures of one reduced formula, and equal rows of a table,
    are not divided between the two.  Equal seeds give equal networks on one machine.

    Args:
        recipe: name of a shipped model or path of a model folder, whose card has its recipe; path of a recipe in a
            TOML file; or a dictionary with the section ``network`` and, unless the defaults will do, ``descriptor``
            and ``training``.
        settings: further settings of the network, ``{"depth": 10}`` for example.
        members: number of networks whose mean is the prediction.
        max_epochs: number of epochs.
        batch_size: number of rows for each step.
        learning_rate: highest learning rate.
        early_stopping_patience: number of epochs without a lower validation error after which training ends.
        validation_fraction: share of the rows, or of the groups, that is held out.
        random_state: seed of weights, validation rows and batches.  None is the seed of the recipe, not a random one.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, for the training.
        n_jobs: number of processes for the descriptor of structures.
        verbose: whether to draw a progress bar.

    A parameter of the network or of the training that is None is that of the recipe.

    Attributes:
        settings_: the recipe with all parameters filled in.
        ensemble_: the trained networks.
        history_: of each network a table with a row per epoch; its errors are mean absolute errors in the unit of ``y``
            (of the standardised ``y``, if that has several columns).
        train_rows_: numbers of the rows that were learnt from.
        validation_rows_: numbers of the rows that were held out.
        validation_errors_: predicted minus given value of these, shape (n_validation, n_outputs).
        elements_: symbols of the elements that were learnt from; only for structures and compositions.
        reach_: what else is known of these rows, for the distances and warnings of the saved model; likewise.
        n_features_in_: number of features; only for a table.

    References:
        D. Jha et al., Sci. Rep. 11, 4244 (2021), doi:10.1038/s41598-021-83193-1, for IRNet; the cards of the models
        name the papers of the others.
    """

    def __init__(
        self,
        recipe: str | os.PathLike[str] | Mapping[str, Any] = DEFAULT_MODEL,
        *,
        settings: Mapping[str, Any] | None = None,
        members: int | None = None,
        max_epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        early_stopping_patience: int | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        device: str = "cpu",
        n_jobs: int = 1,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.members = members
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping_patience = early_stopping_patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None, **fit_params: Any) -> Self:  # noqa: N803  scikit-learn's name
        """Train the networks.

        Args:
            X: table of shape (n, n_features), or n structures or compositions (a list, array, Series, or a DataFrame
                with one column).
            y: shape (n,), or (n, n_outputs).
            groups: a label per row; rows of one label are not divided between training and validation.  By default
                reduced formulas, or equal rows of a table.
            fit_params: there are none; weights of samples are refused.

        Raises:
            RecipeError: if the recipe or a parameter cannot be used, there are fewer than three rows, or ``y`` is NaN
                or infinite in some of them (the message has their numbers).
            MatPropError: for a structure or composition that cannot be used.
            ValueError: for anything else in ``X`` or ``y`` that is no finite number.
        """
        if fit_params:
            name = next(iter(fit_params))
            raise RecipeError(
                f"NetworkRegressor.fit takes X, y and groups. Got {name}; the training loop weighs all rows alike, "
                "drop the argument (or repeat rows)"
                if name == "sample_weight"
                else f"NetworkRegressor.fit takes X, y and groups. Got {name}."
            )
        seed = None if self.random_state is None else _seed(self.random_state)
        recipe = read_settings(
            self.recipe,
            settings=self.settings,
            members=self.members,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            early_stopping_patience=self.early_stopping_patience,
            seed=seed,
        )
        inputs, targets = self._check_fit(X, y, recipe)
        self.settings_ = recipe
        self._one_column = targets.ndim == 1
        targets = targets.reshape(len(targets), -1)
        if groups is None:
            groups = inputs.formulas if isinstance(inputs, Crystals) else same_rows(inputs)
        train, validation = _hold_out(len(targets), groups, self.validation_fraction, recipe.training.seed)
        features = inputs.features if isinstance(inputs, Crystals) else inputs
        if isinstance(inputs, Crystals):
            self.elements_ = inputs.elements(train)
        if isinstance(features, Graphs):
            assert isinstance(inputs, Crystals)
            self.scaler_, n_inputs = None, MAX_Z
            self.target_ = fit_element_offsets(inputs.fractions[train, :MAX_Z], targets[train])
            scaled = self.target_.remaining(targets, inputs.fractions[:, :MAX_Z])
        else:
            options = recipe.descriptor
            self.scaler_, n_inputs = (
                Scaler.fit(features[train], options.clip, scaling=options.scaling),
                features.shape[1],
            )
            spread = targets[train].std(axis=0)
            self.target_ = TargetTransform(targets[train].mean(axis=0), np.where(spread > 0.0, spread, 1.0))
            scaled = (targets - self.target_.offset) / self.target_.scale
        self.train_rows_, self.validation_rows_ = train, validation
        rows = [self._rows(features, scaled, chosen) for chosen in (train, validation)]
        self._train(recipe, rows[0], rows[1], n_inputs)
        held_out = inputs.choose(validation) if isinstance(inputs, Crystals) else inputs[validation]
        self.validation_errors_ = self._values(held_out) - targets[validation]
        if isinstance(inputs, Crystals):
            hidden = [self._hidden(inputs.features[chosen]) for chosen in (train, validation)]
            self.reach_ = reach_of(inputs.choose(train), TrainingDistance.fit(*hidden))
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803  scikit-learn's name
        """Return the mean prediction of the networks, shape (n,) or (n, n_outputs) as ``y`` was.

        Raises:
            NotFittedError: before :meth:`fit`.
            MatPropError: for a structure or composition that cannot be used.
            ValueError: for anything else in ``X`` that is no finite number, or another number of features.
        """
        check_is_fitted(self)
        if hasattr(self, "elements_") and has_no_rows(X):
            return np.empty((0,) if self._one_column else (0, len(self.target_.offset)))
        values = self._values(self._check_predict(X))
        return values[:, 0] if self._one_column else values

    def save(
        self,
        folder: str | os.PathLike[str],
        properties: str | Sequence[str],
        *,
        description: str = "",
        training_set: str = "a table given to NetworkRegressor",
        citation: Sequence[str] = (),
    ) -> ModelCard:
        """Write a model folder, for ``load_model``, ``MatProp``, ``NetworkFeaturizer`` and ``matprop predict``.

        Only of a network that was fitted to structures or compositions.

        Args:
            folder: a new or empty folder; its name is that of the model.
            properties: what ``y`` is, in the unit that :mod:`ase_matprop.properties` has for it; one name for each
                column.
            description: a line for the card.
            training_set: name of the data, for the card.
            citation: what users of the model shall cite.

        Returns:
            The card; its errors are those of the validation rows.

        Raises:
            NotFittedError: before :meth:`fit`.
            RecipeError: if it was fitted to a table of numbers, the folder is not empty or cannot be written, or the
                properties do not fit.
            UnknownNameError: if there is no such property.
        """
        check_is_fitted(self)
        names = [properties] if isinstance(properties, str) else list(properties)
        return save_model(self, folder, names, description=description, training_set=training_set, citation=citation)

    def _values(self, inputs: Crystals | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean prediction, shape (n, n_outputs)."""
        features = inputs.features if isinstance(inputs, Crystals) else inputs
        values = self.target_.inverse(self._evaluate(features, lambda network, batch: network(batch)))
        if isinstance(features, Graphs):
            assert isinstance(inputs, Crystals)
            values = values + self.target_.of_elements(inputs.fractions[:, :MAX_Z])
        return values

    def _hidden(self, features: NDArray[np.float64] | Graphs) -> NDArray[np.float64]:
        """Return the activations of the last hidden layer, those of the members side by side, shape (n, width)."""
        return self._evaluate(features, lambda network, batch: torch.cat([*network.member_activations(batch, -1)], 1))

    def _evaluate(
        self, features: NDArray[np.float64] | Graphs, function: Callable[[Ensemble, Any], torch.Tensor]
    ) -> NDArray[np.float64]:
        """Return a function of the networks and their inputs, shape (n, width), computed in batches."""
        n_rows, dtype = len(features), torch.float32 if isinstance(features, Graphs) else torch.float64
        rows = self._rows(features, np.zeros((n_rows, 1)), np.arange(n_rows))
        step = _GRAPHS_AT_ONCE if isinstance(features, Graphs) else _ARRAYS_AT_ONCE
        network = copy.deepcopy(self.ensemble_).to(dtype)  # in float64 a row gives the same alone and in any batch
        parts: list[NDArray[np.float64]] = []
        with torch.inference_mode():
            for start in range(0, n_rows, step):
                given = rows[list(range(start, min(start + step, n_rows)))][0]
                result = function(network, given if isinstance(features, Graphs) else given.to(dtype))
                parts.append(result.double().numpy())
        return np.concatenate(parts)

    def _train(self, recipe: RegressorSettings, train: Rows, validation: Rows, n_inputs: int) -> None:
        members: list[Network] = []
        self.history_ = []
        n_outputs = train.targets.shape[1]
        for member in range(recipe.network.members):
            seed = recipe.training.seed + member
            with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="ase-matprop-") as folder:
                torch.manual_seed(seed)
                try:
                    network = build_network(recipe.network.name, n_inputs, n_outputs, recipe.network.settings)
                except (ValueError, TypeError) as error:
                    raise RecipeError(f"the network {recipe.network.name} cannot be built: {error}") from None
                state = fit(
                    network,
                    train,
                    validation,
                    recipe.training,
                    seed=seed,
                    folder=Path(folder),
                    target_scale=float(self.target_.scale[0]) if n_outputs == 1 else 1.0,
                    progress_bar=self.verbose,
                    device=self.device,
                )
                self.history_.append(pd.read_csv(Path(folder) / HISTORY))
            network.load_state_dict(state)
            members.append(network.cpu())
        self.ensemble_ = Ensemble(members).eval()

    def _rows(self, features: NDArray[np.float64] | Graphs, targets: NDArray[np.float64], rows: Any) -> Rows:
        """Return what the networks get of some rows."""
        wanted = targets[rows].astype(np.float32)
        if isinstance(features, Graphs):
            return Rows(features[rows], wanted, vectors=self.settings_.network.name != "schnet")
        assert self.scaler_ is not None  # networks on features have one
        return Rows(self.scaler_.transform(features[rows]), wanted)

    def _check_fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        recipe: RegressorSettings,
    ) -> tuple[Crystals | NDArray[np.float64], NDArray[np.float64]]:
        """Return checked inputs and targets."""
        check_targets(y)
        items = crystals_in(X)
        for stale in ("elements_", "reach_", "n_features_in_", "feature_names_in_"):  # of another fit
            self.__dict__.pop(stale, None)
        if items is None:
            if recipe.takes_graphs:
                raise RecipeError(f"the network {recipe.network.name} takes structures, and X has numbers")
            table, targets = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
            _check_number(len(targets))
            return table, targets
        if y is None:
            raise RecipeError("NetworkRegressor.fit requires y, and None was given; give one target for each row")
        targets = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if targets.ndim > 2 or len(targets) != len(items):
            raise RecipeError(
                f"X has {len(items)} rows, and y has the shape {targets.shape}; give one target for each row"
            )
        _check_number(len(targets))
        return read_crystals(items, recipe, self.n_jobs), targets

    def _check_predict(self, X: Any) -> Crystals | NDArray[np.float64]:  # noqa: N803
        if hasattr(self, "n_features_in_"):
            if crystals_in(X) is not None:
                raise RecipeError(f"X must be a table of {self.n_features_in_} numbers, as in fit, and has structures")
            table: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
            return table
        items = crystals_in(X)
        if items is None:
            raise RecipeError("X must have structures or compositions, as in fit, and is a table of numbers")
        inputs = read_crystals(items, self.settings_, self.n_jobs)
        unseen = sorted(set(inputs.elements()) - set(self.elements_))
        if unseen:
            warnings.warn(f"the network never saw {', '.join(unseen)} in training", stacklevel=3)
        return inputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _check_number(n_rows: int) -> None:
    if n_rows < _FEWEST_ROWS:
        raise RecipeError(f"a network needs {_FEWEST_ROWS} rows or more to learn from. Got n_samples = {n_rows}.")


def _hold_out(n_rows: int, groups: Any, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted numbers of the rows for training and validation.

    Groups that cannot be divided so that two rows are left to learn from are not kept together.
    """
    if not isinstance(share, float) or not 0.0 < share < 1.0:
        raise RecipeError(f"the validation_fraction must be a number between 0 and 1. Got {share!r}.")
    labels = numbered_groups(groups, n_rows)
    rows = np.arange(n_rows)
    n_groups = labels.max() + 1
    if n_groups > 1:
        n_held = min(max(1, round(share * n_groups)), int(n_groups) - 1)
        train, validation = next(GroupShuffleSplit(1, test_size=n_held, random_state=seed).split(rows, groups=labels))
        if len(train) > 1:
            return np.sort(train), np.sort(validation)
    n_held = min(max(1, round(share * n_rows)), n_rows - 2)
    train, validation = next(ShuffleSplit(1, test_size=n_held, random_state=seed).split(rows))
    return np.sort(train), np.sort(validation)
