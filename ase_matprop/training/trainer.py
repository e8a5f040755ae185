"""What all trainings share: Lightning's trainer with a history, checkpoints to go on from, and a quiet log."""

from __future__ import annotations

import contextlib
import csv
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from torch import nn

from ase_matprop.errors import RecipeError

logger = logging.getLogger(__name__)

LAST_CHECKPOINT = "last.ckpt"
HISTORY = "history.csv"


def run_trainer(
    module: pl.LightningModule,
    train: Iterable[Any],
    validation: Iterable[Any] | None = None,
    *,
    max_epochs: int,
    folder: Path | None = None,
    gradient_clip: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress_bar: bool = False,
    device: str = "cpu",
) -> None:
    """Train a Lightning module.

    With a folder, a run that was interrupted goes on from ``folder/last.ckpt``, which is written after every epoch.

    Args:
        module: with its optimizer.
        train: loader of the batches of an epoch.
        validation: loader of the batches of the validation after an epoch.
        max_epochs: number of epochs.
        folder: of the checkpoint; None for a run that leaves nothing behind.
        gradient_clip: largest norm of the gradient.
        callbacks: further ones.
        progress_bar: whether to draw one.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Raises:
        RecipeError: if the device cannot be used.
        KeyboardInterrupt: if the run was interrupted.
    """
    check_device(device)
    chosen = list(callbacks)
    checkpoint = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        chosen.append(ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False))
        if (folder / LAST_CHECKPOINT).is_file():
            checkpoint = folder / LAST_CHECKPOINT
    if progress_bar:
        chosen.append(RichProgressBar(leave=False))
    with _quiet(), torch.random.fork_rng(devices=[]):
        trainer = pl.Trainer(
            accelerator=device,
            devices=1,
            max_epochs=max_epochs,
            gradient_clip_val=gradient_clip,
            callbacks=chosen,
            logger=False,
            default_root_dir=folder,
            enable_checkpointing=folder is not None,
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, train, validation, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of an interruption
            raise KeyboardInterrupt from None


def decayed_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: biases and normalisation are not decayed, those with more dimensions are."""
    found = list(parameters)
    return [
        {"params": [p for p in found if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in found if p.ndim <= 1], "weight_decay": 0.0},
    ]


class History(Callback):
    """Appends one row per epoch to ``history.csv``; a resumed run goes on where its checkpoint ends.

    Args:
        folder: of the file; its name is that of the run in the log.
        metrics: names of what the module logs; a column for each.
        timed: whether a column has the seconds that training and validation took up to there, those before an
            interruption included.
    """

    def __init__(self, folder: Path, metrics: Sequence[str], *, timed: bool = False) -> None:
        self.path = folder / HISTORY
        self.metrics = tuple(metrics)
        self.columns = ("epoch", "learning_rate", *metrics, *(["seconds"] if timed else []))
        self.seconds = 0.0
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = time.monotonic()
        rows: list[list[str]] = []
        if self.path.is_file():
            with self.path.open(newline="") as stream:
                rows = [row for row in list(csv.reader(stream))[1:] if int(row[0]) < trainer.current_epoch]
        with self.path.open("w", newline="") as stream:
            csv.writer(stream).writerows([self.columns, *rows])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        values = {name: float(trainer.callback_metrics[name]) for name in self.metrics}
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
        run = self.path.parent.name
        logger.info("%s, epoch %d of %s: %s", run, trainer.current_epoch + 1, trainer.max_epochs, told)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        with self.path.open("a", newline="") as stream:
            numbers = {"learning_rate": rate, **values, "seconds": self.seconds}
            cells = [f"{numbers[name]:.6g}" for name in self.columns[1:]]
            csv.writer(stream).writerow([trainer.current_epoch, *cells])


def check_device(device: str) -> None:
    """Raise unless networks can be trained on a device.

    Raises:
        RecipeError: if there is no such device, or not on this machine.
    """
    if device not in ("cpu", "cuda", "auto"):
        raise RecipeError(f"the device must be cpu, cuda or auto. Got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            "the device 'cuda' cannot be used: torch finds no GPU; train with device='cpu' (--device cpu)"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from advertising and from warning of what is intended here."""
    names = ["lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities"]
    names += ["pytorch_lightning", "lightning_fabric"]  # the same once more, which SchNetPack imports
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*defined a `validation_step`.*")
        for each in loggers:
            each.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
