"""The training loop: one network, from feature arrays to the weights with the lowest validation error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.networks.ensemble import Network
from ase_matprop.networks.schnet import add_vectors, pair_distances, pair_vectors
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.trainer import History, decayed_groups, run_trainer

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": nn.functional.l1_loss,
    "mse": nn.functional.mse_loss,
    "huber": lambda output, target: nn.functional.huber_loss(output, target, delta=0.1),
}
_WARM_UP_EPOCHS = 2


@dataclass(frozen=True, eq=False)
class Rows(Dataset[Any]):
    """Network inputs and scaled targets of one set; a list of row numbers gives the batch of these rows.

    Attributes:
        inputs: feature vectors, shape (n, n_features), or neighbour graphs.
        targets: shape (n, n_properties), NaN where a row has none; for a classification numbers of classes.
        vectors: whether the network needs the vectors of the graphs' pairs, and not only their lengths.
        forces: scaled forces on the atoms of the graphs, shape (N, 3), where they are learnt besides; these need
            vectors.
    """

    inputs: NDArray[np.float32] | Graphs
    targets: NDArray[np.float32]
    vectors: bool = False
    forces: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: list[int]) -> tuple[Any, Tensor]:
        targets = torch.from_numpy(self.targets[rows])
        chosen = self.inputs[rows]
        if not isinstance(chosen, Graphs):
            return torch.from_numpy(chosen), targets
        if not self.vectors:
            return pair_distances(chosen), targets
        inputs = pair_vectors(chosen)
        if self.forces is None:
            return add_vectors(inputs), targets
        assert isinstance(self.inputs, Graphs)
        return inputs | {"forces": torch.from_numpy(self.forces[self.inputs.atoms_of(rows)])}, targets


class _ConsecutiveBatches(Sampler[list[int]]):
    """Row numbers of batches in order."""

    def __init__(self, n_rows: int, batch_size: int) -> None:
        self.n_rows = n_rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(self.n_rows / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.n_rows, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.n_rows)))


class _ShuffledBatches(Sampler[list[int]]):
    """Row numbers of shuffled full batches; seed and epoch alone decide, so that a resumed run repeats their order."""

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows = n_rows
        self.batch_size = min(batch_size, n_rows)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:  # called by Lightning
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_rows // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n_rows)
        for start in range(len(self)):
            yield order[start * self.batch_size : (start + 1) * self.batch_size].tolist()


class Trainee(pl.LightningModule):
    """Lightning module of a network on feature vectors or neighbour graphs.

    Args:
        network: the network.
        settings: section ``[training]`` of the recipe.
        target_scale: turns errors of scaled targets into the unit in which they are reported.
        seed: seed of dropout.
    """

    def __init__(self, network: Network, settings: TrainingSection, target_scale: float, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.target_scale = target_scale
        self.seed = seed
        self.metric = "cross_entropy" if settings.loss == "cross_entropy" else "mae"

    def on_train_epoch_start(self) -> None:
        for module in self.network.modules():  # what is frozen is frozen with its statistics, and drops nothing
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()

    def forward(self, inputs: Any) -> Tensor:
        if not self.training or self.settings.precision == "float32":
            outputs: Tensor = self.network(inputs)
            return outputs
        with torch.autocast(self.device.type, torch.bfloat16):
            hidden = self.network.hidden(inputs)
        return self.network.read_out(hidden.float(), inputs)  # what is predicted is never rounded

    def on_train_batch_start(self, batch: tuple[Any, Tensor], batch_idx: int) -> None:
        if batch_idx > 0:  # the hook at the start of an epoch is not called for the first one of a resumed run
            return
        # seed and epoch alone decide what is dropped, so that a resumed run drops the same
        torch.manual_seed(self.seed + 1_000_003 * (self.current_epoch + 1))
        if self.current_epoch >= self.settings.dropout_until * self.settings.max_epochs:
            for module in self.network.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0

    def training_step(self, batch: tuple[Any, Tensor], batch_index: int) -> Tensor:
        inputs, targets = batch
        loss, metric = self._errors(self(inputs), targets)
        self.log(f"train_{self.metric}", metric, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(targets))
        return loss

    def validation_step(self, batch: tuple[Any, Tensor], batch_index: int) -> None:
        inputs, targets = batch
        _, metric = self._errors(self(inputs), targets)
        self.log(f"validation_{self.metric}", metric, prog_bar=True, batch_size=len(targets))

    def _errors(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and metric of a batch; what has no target does not count."""
        if self.settings.loss == "cross_entropy":
            loss = nn.functional.cross_entropy(outputs, targets[:, 0].long())
            return loss, loss.detach()
        known = targets.isfinite()
        if not known.all():
            outputs, targets = outputs[known], targets[known]
        metric = (outputs.detach() - targets).abs().mean() * self.target_scale
        return _LOSSES[self.settings.loss](outputs, targets), metric

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = decayed_groups(parameters, settings.weight_decay)
        kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=settings.learning_rate, fused=True)
        if settings.schedule == "one_cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                settings.learning_rate,
                total_steps=int(self.trainer.estimated_stepping_batches),
                pct_start=0.15,
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
        if settings.schedule == "warm_up":
            warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, self._warm_up_factor)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warm_up, "interval": "step"}}
        if settings.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=25, min_lr=1e-6)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": f"validation_{self.metric}"},
            }
        return optimizer

    def _warm_up_factor(self, step: int) -> float:
        n_steps = int(self.trainer.estimated_stepping_batches)
        ramp = n_steps * min(_WARM_UP_EPOCHS / self.settings.max_epochs, 0.5)
        if step < ramp:
            return float(10.0 ** (3.0 * (step / ramp - 1.0)))
        return 0.5 * (1.0 + math.cos(math.pi * (step - ramp) / (n_steps - ramp)))


def fit(
    network: Network,
    train: Rows,
    validation: Rows,
    settings: TrainingSection,
    *,
    seed: int,
    folder: Path,
    target_scale: float,
    progress_bar: bool = True,
    device: str = "cpu",
    trainee: type[Trainee] = Trainee,
) -> dict[str, Tensor]:
    """Train a network and return the state with the lowest validation error.

    A run that was interrupted goes on from ``folder/last.ckpt``; ``folder/history.csv`` has one row per epoch.

    Args:
        network: freshly initialised network.
        train: training rows.
        validation: rows for early stopping and for the choice of the best state.
        settings: section ``[training]`` of the recipe.
        seed: seed of the order of the rows.
        folder: folder of checkpoints and history.
        target_scale: the property's value of one unit of scaled target.
        progress_bar: whether to draw a progress bar.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        trainee: Lightning module of the training, for other losses.

    Raises:
        RecipeError: if the device cannot be used.
    """
    module = trainee(network, settings, target_scale, seed)
    monitor = f"validation_{module.metric}"
    # not weights only: that would leave out the averaged weights, whose error is the one that is monitored
    best = ModelCheckpoint(dirpath=folder, filename="best", monitor=monitor, enable_version_counter=False)
    callbacks: list[Callback] = [History(folder, [f"train_{module.metric}", monitor]), best]
    if settings.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(monitor, patience=settings.early_stopping_patience))
    if settings.weight_average_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.weight_average_decay, use_buffers=True))
    shuffled = _ShuffledBatches(len(train), settings.batch_size, seed)
    consecutive = _ConsecutiveBatches(len(validation), 256 if isinstance(validation.inputs, Graphs) else 4096)
    run_trainer(
        module,
        DataLoader(train, sampler=shuffled, batch_size=None),
        DataLoader(validation, sampler=consecutive, batch_size=None),
        max_epochs=settings.max_epochs,
        folder=folder,
        gradient_clip=settings.gradient_clip,
        callbacks=callbacks,
        progress_bar=progress_bar,
        device=device,
    )
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in state.items()}
