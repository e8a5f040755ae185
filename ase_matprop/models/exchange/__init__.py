"""Weights from and for other programs: ONNX, Keras HDF5 and TorchScript files.

:func:`import_weights` turns a file that the authors of a network published into a model folder, :func:`download_model`
fetches such a file first, and :func:`export_model` writes a model for programs that do not have this package.
"""

from ase_matprop.models.exchange.download import RemoteModel, download_model, list_remote_models
from ase_matprop.models.exchange.exporter import EXPORT_FORMATS, export_model
from ase_matprop.models.exchange.importer import import_weights
from ase_matprop.models.exchange.published import PUBLISHED

__all__ = [
    "EXPORT_FORMATS",
    "PUBLISHED",
    "RemoteModel",
    "download_model",
    "export_model",
    "import_weights",
    "list_remote_models",
]
