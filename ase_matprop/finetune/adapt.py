"""One fine-tuning: from the weights of a model, or from random ones, to weights adapted to some rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.prepared import Prepared
from ase_matprop.finetune.schemes import Scheme, freeze
from ase_matprop.finetune.writing import write_text
from ase_matprop.models.artefact import Artefact, Scaler, TargetTransform
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.predictor import Predictor
from ase_matprop.networks import build_network
from ase_matprop.networks.ensemble import Ensemble, Network
from ase_matprop.training.element_offsets import fit_element_offsets
from ase_matprop.training.forces import ForceTrainee
from ase_matprop.training.loop import Trainee, fit
from ase_matprop.training.recipe import TrainingSection

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BEGAN_FILE = "began_with.json"
_PARTS = 5  # of the cross-validation
_FEWEST_GROUPS = 3  # to leave them out as a whole
_SHIFT_RIDGE = 0.1  # in units of rows that consist of one element only


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network after its training on some rows.

    Attributes:
        artefact: the network with what belongs to it; the card is still that of the source.
        predicted: the property of all rows, shape (n,).
        start_mae: error on the validation rows before the training.
        validation_mae: error on the validation rows afterwards.
        kept_start: whether no epoch was better on the validation rows than the start, which was kept then.
    """

    artefact: Artefact
    predicted: Floats
    start_mae: float
    validation_mae: float
    kept_start: bool = False


def adapt(
    source: Artefact,
    prepared: Prepared,
    train: Ints,
    validation: Ints,
    scheme: Scheme | None,
    settings: TrainingSection,
    *,
    seed: int,
    folder: Path,
    same_property: bool = True,
    device: str = "cpu",
    progress_bar: bool = False,
) -> Adapted:
    """Train the networks of a model further on some rows.

    What is interrupted goes on where its last finished epoch ended, if it is called with the same arguments again.

    Args:
        source: the model; its network is not changed.
        prepared: all rows.
        train: indices of the rows to learn from.
        validation: indices of the rows that choose the epoch.
        scheme: which weights are trained; None to train random weights of the same network from scratch.
        settings: of the training.
        seed: of the order of the rows and, from scratch, of the weights.
        folder: folder of checkpoints and histories.
        same_property: whether the source predicts what is learnt, so that it can be taken as it is.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        progress_bar: whether to draw progress bars.

    Raises:
        FinetuneError: if the folder holds what was trained on other rows, or with other settings.
    """
    _begin(folder, source, prepared, train, validation, scheme, settings, seed=seed, same_property=same_property)
    start = (
        _from_scratch(source, prepared, train, seed)
        if scheme is None
        else starting_point(source, prepared, train, validation, same_property=same_property)
    )
    scaled = _scaled_targets(start.target, prepared)
    inputs: object = prepared.table.features
    if not isinstance(prepared.table.features, Graphs):
        assert start.scaler is not None
        inputs = start.scaler.transform(prepared.table.features)
    scale = float(start.target.scale[0])
    vectors = start.card.network.name == "painn"
    learnt, checked = (
        prepared.rows(rows, scaled, inputs, vectors=vectors, scale=scale) for rows in (train, validation)
    )
    members: list[Network] = []
    for number, member in enumerate(start.network.members):
        member_folder = folder / f"member_{number}"
        finished = member_folder / "finished.safetensors"
        network = _copy_of(start, member)
        if scheme is not None:
            freeze(network, scheme)
        if not finished.is_file():
            state = fit(
                network,
                learnt,
                checked,
                _fitting(settings, len(train)),
                seed=seed + number,
                folder=member_folder,
                target_scale=scale,
                progress_bar=progress_bar,
                device=device,
                trainee=Trainee if prepared.forces is None else ForceTrainee,
            )
            partial = finished.with_suffix(".partial")
            save_file(state, partial)
            partial.replace(finished)
        network.load_state_dict(load_file(finished))
        members.append(network.eval())
    trained = replace(start, network=Ensemble(members))
    before, after = predict_rows(start, prepared), predict_rows(trained, prepared)
    start_mae, validation_mae = (
        float(np.abs(predicted[validation] - prepared.targets[validation]).mean()) for predicted in (before, after)
    )
    if scheme is not None and prepared.forces is None and start_mae <= validation_mae:
        return Adapted(start, before, start_mae, start_mae, kept_start=True)
    return Adapted(trained, after, start_mae, validation_mae)


def _begin(
    folder: Path,
    source: Artefact,
    prepared: Prepared,
    train: Ints,
    validation: Ints,
    scheme: Scheme | None,
    settings: TrainingSection,
    *,
    seed: int,
    same_property: bool,
) -> None:
    """Write into a folder what its training began with, or make sure that it is the same."""
    targets = np.round(prepared.table.targets[np.concatenate([train, validation])], 6) + 0.0
    identity = {
        "source": source.card.weights.sha256,
        "rows": prepared.table.source_sha256,
        "targets": hashlib.sha256(targets.tobytes()).hexdigest(),
        "forces": prepared.forces is not None,
        "train": train.tolist(),
        "validation": validation.tolist(),
        "scheme": None if scheme is None else scheme.name,
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "same_property": same_property,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    stored, content = folder / BEGAN_FILE, json.dumps({"sha256": digest}) + "\n"
    if stored.is_file() and stored.read_text(encoding="utf-8") == content:
        return
    if stored.is_file() or next(folder.glob("member_*"), None) is not None:
        raise FinetuneError(
            f"{folder} holds a training of other rows, or with other settings; remove it, or choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(stored, content)


def starting_point(
    source: Artefact, prepared: Prepared, train: Ints, validation: Ints, *, same_property: bool = True
) -> Artefact:
    """Return the model with its offsets moved as by :func:`moved`, or as it is if moving does not help.

    Whether it helps is asked of training and validation rows together, by cross-validation: the few validation rows of
    a small set would decide by chance.  Groups of rows are left out as a whole, as those are that the model will be
    measured on; with fewer than three groups, single rows are.
    """
    rows = np.concatenate([train, validation])
    shifted = moved(source, prepared, train)
    if not same_property or len(rows) < _PARTS:
        return shifted
    residuals = prepared.targets - predict_rows(source, prepared)
    remaining = np.empty(len(rows))
    groups = prepared.groups[rows]
    n_groups = len(np.unique(groups))
    if n_groups >= _FEWEST_GROUPS:
        folds = GroupKFold(min(_PARTS, n_groups), shuffle=True, random_state=0).split(rows, groups=groups)
    else:
        folds = KFold(_PARTS, shuffle=True, random_state=0).split(rows)
    for kept, left_out in folds:
        shift = _shift(source.target, prepared.fractions, residuals, rows[kept])
        remaining[left_out] = residuals[rows[left_out]] - _shift_of(shift, prepared.fractions[rows[left_out]])
    return source if np.abs(residuals[rows]).mean() <= np.abs(remaining).mean() else shifted


def moved(source: Artefact, prepared: Prepared, train: Ints) -> Artefact:
    """Return the model with its offsets moved to the level of the training rows.

    Calculations with other settings often differ by something that depends on the composition only.  For a network on
    graphs that is a constant per element (ridge regression), for others one constant (the median).
    """
    target = source.target
    residuals = prepared.targets - predict_rows(source, prepared)
    shift = _shift(target, prepared.fractions, residuals, train)
    if target.element_offsets is None:
        return replace(source, target=replace(target, offset=target.offset + shift))
    return replace(source, target=replace(target, element_offsets=target.element_offsets + shift[:, None]))


def _shift(target: TargetTransform, fractions: Floats, residuals: Floats, rows: Ints) -> Floats:
    """Return what the offsets must move by: one number for each element, or a single one, shape (1,)."""
    if target.element_offsets is None:
        return np.array([np.median(residuals[rows])])
    fitted = Ridge(alpha=_SHIFT_RIDGE, fit_intercept=False).fit(fractions[rows], residuals[rows])
    return np.asarray(fitted.coef_)


def _shift_of(shift: Floats, fractions: Floats) -> Floats:
    """Return what a shift makes of the prediction of each row, shape (n,)."""
    return np.full(len(fractions), shift[0]) if len(shift) == 1 else np.asarray(fractions @ shift)


def predict_rows(model: Artefact, prepared: Prepared) -> Floats:
    """Return what a model predicts for all rows, shape (n,)."""
    features = prepared.table.features
    if isinstance(features, Graphs):
        members = AtomisticPredictor(model).predict_graphs(features)
    else:
        members = Predictor(model).predict_features(features)
    predicted: Floats = members.mean(axis=0)[:, 0]
    return predicted


def _scaled_targets(target: TargetTransform, prepared: Prepared) -> Floats:
    """Return what the network has to give for all rows, shape (n, 1)."""
    if target.element_offsets is None:
        return (prepared.table.targets - target.offset[:1]) / target.scale[:1]
    return target.remaining(prepared.table.targets, prepared.fractions)


def _from_scratch(source: Artefact, prepared: Prepared, train: Ints, seed: int) -> Artefact:
    """Return a model of the same kind with random weights, prepared for the training rows alone.

    As many members, and features scaled in the same way: nothing but the weights tells it from the source.
    """
    spec, targets = source.card.network, prepared.table.targets[train]
    features = prepared.table.features
    members: list[Network] = []
    for number in range(len(source.network.members)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            members.append(build_network(spec.name, spec.n_inputs, spec.n_outputs, spec.settings))
    network = Ensemble(members).eval()
    if isinstance(features, Graphs):
        target = fit_element_offsets(prepared.fractions[train], targets)
        return replace(source, network=network, target=target, reach=None)
    scaling = source.card.recipe.get("descriptor", {}).get("scaling", "standardize")
    scaler = Scaler.fit(features[train], source.card.descriptor.clip, scaling=scaling)
    target = TargetTransform(targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-6))
    return replace(source, network=network, scaler=scaler, target=target)


def _copy_of(model: Artefact, member: torch.nn.Module) -> Network:
    spec = model.card.network
    with torch.random.fork_rng(devices=[]):
        network = build_network(spec.name, spec.n_inputs, spec.n_outputs, spec.settings)
    network.load_state_dict(member.state_dict())
    return network


def _fitting(settings: TrainingSection, n_train: int) -> TrainingSection:
    """Return the settings with batches that a small set can fill several times."""
    return settings.model_copy(update={"batch_size": max(2, min(settings.batch_size, n_train // 4))})
