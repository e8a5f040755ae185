"""The training loop: what is dropped, what is frozen, and which weights come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ase_matprop.networks import build_network
from ase_matprop.training.loop import Rows, Trainee, fit
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.trainer import HISTORY

N_FEATURES = 6


def rows(n: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(n, N_FEATURES)).astype(np.float32)
    targets = np.sin(inputs.sum(axis=1, keepdims=True)) + generator.normal(0.0, 0.3, (n, 1))
    return Rows(inputs, targets.astype(np.float32))


def network() -> Any:
    torch.manual_seed(0)
    return build_network("irnet", N_FEATURES, 1, {"stacks": [[16, 1], [8, 1]], "dropout": 0.4})


class _Watched(Trainee):
    """Notes whether each dropout is at work in each training step, with its probability, and who is frozen."""

    seen: list[tuple[int, tuple[bool, ...], tuple[float, ...]]]

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        dropouts = [module for module in self.network.modules() if isinstance(module, nn.Dropout)]
        self.seen.append((self.current_epoch, tuple(d.training for d in dropouts), tuple(d.p for d in dropouts)))
        return super().training_step(batch, batch_index)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[_Watched]:
    monkeypatch.setattr(_Watched, "seen", [], raising=False)
    return _Watched


def test_dropout_drops_until_it_is_to_end(tmp_path: Path, watched: type[_Watched]) -> None:
    settings = TrainingSection(max_epochs=4, batch_size=16, dropout_until=0.5)
    fit(
        network(), rows(32, 0), rows(16, 1), settings,
        seed=0, folder=tmp_path, target_scale=1.0, progress_bar=False, trainee=watched,
    )  # fmt: skip
    assert len(watched.seen) == 8
    for epoch, at_work, probabilities in watched.seen:
        assert at_work == (True, True)
        assert probabilities == ((0.4, 0.4) if epoch < 2 else (0.0, 0.0))


def test_a_frozen_block_drops_nothing_and_keeps_its_statistics(tmp_path: Path, watched: type[_Watched]) -> None:
    frozen = network()
    frozen.blocks[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in frozen.blocks[0].state_dict().items()}
    settings = TrainingSection(max_epochs=2, batch_size=16)
    state = fit(
        frozen, rows(32, 0), rows(16, 1), settings,
        seed=0, folder=tmp_path, target_scale=1.0, progress_bar=False, trainee=watched,
    )  # fmt: skip
    assert {at_work for _, at_work, _ in watched.seen} == {(False, True)}
    for name, tensor in before.items():
        torch.testing.assert_close(state[f"blocks.0.{name}"], tensor)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_weights_that_come_back_are_those_of_the_lowest_validation_error(
    tmp_path: Path, decay: float | None
) -> None:
    validation = rows(64, 1)
    settings = TrainingSection(max_epochs=6, batch_size=16, learning_rate=0.02, weight_average_decay=decay)
    state = fit(
        network(), rows(64, 0), validation, settings, seed=0, folder=tmp_path, target_scale=2.0, progress_bar=False
    )
    returned = network()
    returned.load_state_dict(state)
    with torch.inference_mode():
        outputs = returned.eval()(torch.from_numpy(np.asarray(validation.inputs)))
    error = 2.0 * float((outputs - torch.from_numpy(validation.targets)).abs().mean())
    history = pd.read_csv(tmp_path / HISTORY)
    assert error == pytest.approx(history["validation_mae"].min(), rel=1e-4)
    assert history["validation_mae"].nunique() == len(history)
