"""ONNX files: a chain of fully connected layers is read from a graph, whichever program wrote it; any file can be run.

Reference of the operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import ArtefactError
from ase_matprop.models.exchange.chain import LINEAR, Affine, DenseChain, DenseLayer
from ase_matprop.models.exchange.common import optional_module

_PURPOSE = "reading and writing ONNX files"
#: operators that leave the values of a chain as they are when a network is evaluated
_SKIPPED = {"Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_ACTIVATIONS = {"Softsign", "Sigmoid", "Elu", "Relu", "Tanh", "LeakyRelu", "Selu", "Softplus"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "BatchNormalization"}


def read_onnx(path: Path) -> DenseChain:
    """Read the fully connected layers of an ONNX file.

    The graph must be one chain from its features to its output: Gemm, or MatMul and Add; activations; elementwise
    scaling and clipping of the features before the first layer, and elementwise scaling of the output.

    Raises:
        ArtefactError: if the file is no ONNX file, is incomplete, or holds anything else.
        MissingDependencyError: without the package onnx.
    """
    onnx = optional_module("onnx", _PURPOSE)
    decode_error = optional_module("google.protobuf.message", _PURPOSE).DecodeError
    try:
        model = onnx.load(path)
    except (decode_error, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtefactError(f"{path} is no ONNX file, or an incomplete one: {str(error).splitlines()[0]}") from None
    if not model.graph.node or len(model.graph.output) != 1:
        raise ArtefactError(
            f"{path} is no complete ONNX file of a network with one output: it has {len(model.graph.node)} operations "
            f"and {len(model.graph.output)} outputs"
        )
    try:
        graph = _Graph(model.graph, onnx, path)
        builder = _ChainBuilder(graph, path)
        for node, operator in graph.chain():
            builder.add(node, operator)
    except (IndexError, KeyError, RecursionError, TypeError) as error:
        raise ArtefactError(f"{path} is no valid ONNX file: {error!r} in its graph") from None
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return DenseChain(
        file_format="ONNX",
        layers=builder.layers,
        before=builder.before,
        clip=builder.clip,
        after=builder.after,
        metadata={entry.key: entry.value for entry in model.metadata_props},
        half_precision=any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer),
        remarks=[f"the ONNX file says that {producer} wrote it"] if producer else [],
    )


def add_metadata(path: Path, metadata: dict[str, str]) -> None:
    """Store texts in an ONNX file, under the ``metadata_props`` of the format."""
    onnx = optional_module("onnx", _PURPOSE)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def run_onnx(path: Path, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate an ONNX file with onnxruntime, row by row, so that files for a fixed number of rows run as well.

    Args:
        path: file with features as its first input; a further input (the rate of dropout, say) is given zeros.
        features: shape (n, n_features).

    Returns:
        Its first output, shape (n, n_outputs).

    Raises:
        ArtefactError: if onnxruntime cannot run the file.
        MissingDependencyError: without the package onnxruntime.
    """
    runtime = optional_module("onnxruntime", "running an ONNX file")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only: what it would warn of is the business of the file's authors
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        first, *further = session.get_inputs()
        given = {entry.name: np.zeros(_fixed_shape(entry), _numpy_type(entry)) for entry in further}
        rank_one = len(first.shape) == 1
        rows = features.astype(_numpy_type(first))
        outputs = [session.run(None, {**given, first.name: row if rank_one else row[None]})[0] for row in rows]
    except Exception as error:  # onnxruntime has a dozen classes of errors without a common one
        raise ArtefactError(f"{path} cannot be run by onnxruntime: {str(error).splitlines()[0]}") from None
    return np.array(outputs, dtype=np.float64).reshape(len(features), -1)


def _numpy_type(entry: Any) -> str:
    names = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    return names.get(entry.type, str(entry.type).removeprefix("tensor(").removesuffix(")"))


def _fixed_shape(entry: Any) -> list[int]:
    return [size if isinstance(size, int) else 1 for size in entry.shape]


class _Graph:
    """The graph of an ONNX file, with its constants."""

    def __init__(self, graph: Any, onnx: Any, path: Path) -> None:
        self._onnx = onnx
        self._path = path
        self._output = graph.output[0].name
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        # before version 4 of the format, initializers are listed among the inputs, too
        self._inputs = {entry.name for entry in graph.input} - self._initializers.keys()

    def chain(self) -> list[tuple[Any, str]]:
        """Return the nodes between features and output, in this order, each with the name of its operator."""
        nodes: list[tuple[Any, str]] = []
        name = self._output
        while name not in self._inputs:
            node = self._producers.get(name)
            if node is None or len(nodes) > len(self._producers):
                raise ArtefactError(f"{self._path} is incomplete: no operation of its graph gives {name!r}")
            operator = node.op_type
            if (argument := self._softsign_argument(node)) is not None:
                operator, name = "Softsign", argument
            elif operator in _SKIPPED or operator == "Clip":
                name = node.input[0]
            else:
                variable = [entry for entry in node.input if entry and not self.is_constant(entry)]
                if len(variable) != 1:
                    raise ArtefactError(
                        f"{self._path} is no chain of fully connected layers: {self.describe(node)} has "
                        f"{len(variable)} inputs that depend on the features"
                    )
                name = variable[0]
            nodes.append((node, operator))
        return nodes[::-1]

    def is_constant(self, name: str) -> bool:
        """Whether a value does not depend on the features."""
        node = self._folded(name)
        return (
            name in self._initializers
            if node is None
            else node.op_type == "Constant" or self.is_constant(node.input[0])
        )

    def constant(self, name: str) -> NDArray[Any]:
        """Return the value of a constant, in the precision of the file."""
        node = self._folded(name)
        if node is None:
            return np.asarray(self._onnx.numpy_helper.to_array(self._initializers[name]))
        attributes = self.attributes(node)
        if node.op_type == "Constant":
            value = next(iter(attributes.values()))
            return np.asarray(self._onnx.numpy_helper.to_array(value) if hasattr(value, "data_type") else value)
        value = self.constant(node.input[0])
        return np.transpose(value, attributes.get("perm")) if node.op_type == "Transpose" else value

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return the attributes of a node by name."""
        return {entry.name: self._onnx.helper.get_attribute_value(entry) for entry in node.attribute}

    def describe(self, node: Any) -> str:
        """Return what a message calls a node."""
        return f"the operation {node.op_type} ({node.name or node.output[0]})"

    def _folded(self, name: str) -> Any:
        """Return the node that gives a constant, if it is one that keeps a constant what it is."""
        node = self._producers.get(name)
        return node if node is not None and node.op_type in {"Constant", "Identity", "Cast", "Transpose"} else None

    def _softsign_argument(self, node: Any) -> str | None:
        """Return the argument x if a node is the division of x / (1 + |x|): the way in which torch writes SoftSign."""
        if node.op_type != "Div" or self.is_constant(node.input[0]):
            return None
        total = self._producers.get(node.input[1])
        if total is None or total.op_type != "Add":
            return None
        absolute = [self._producers.get(name) for name in total.input]
        ones = [name for name in total.input if self.is_constant(name) and np.all(self.constant(name) == 1.0)]
        is_softsign = len(ones) == 1 and any(
            entry is not None and entry.op_type == "Abs" and entry.input[0] == node.input[0] for entry in absolute
        )
        return str(node.input[0]) if is_softsign else None


class _ChainBuilder:
    """Collects the layers of a chain, node by node from the features on."""

    def __init__(self, graph: _Graph, path: Path) -> None:
        self._graph = graph
        self._path = path
        self.layers: list[DenseLayer] = []
        self.before = Affine()
        self.after = Affine()
        self.clip: float | None = None
        self._has_bias = True

    def add(self, node: Any, operator: str) -> None:
        """Add what a node does.

        Raises:
            ArtefactError: if a chain of fully connected layers has nothing of that kind, or not at that place.
        """
        if operator in _SKIPPED:
            return
        if operator in {"Gemm", "MatMul"}:
            self._add_layer(node)
        elif operator in _ACTIVATIONS and self.layers and self.layers[-1].activation == LINEAR:
            self._add_activation(node, operator)
        elif operator == "Clip" and not self.layers and self.clip is None:
            self._add_clip(node)
        elif operator in _ELEMENTWISE:
            self._add_elementwise(node)
        else:
            place = f"after layer {len(self.layers)}" if self.layers else "before the first layer"
            raise self._error(node, f"{place}, where a chain of fully connected layers cannot have it")

    def _error(self, node: Any, reason: str) -> ArtefactError:
        return ArtefactError(f"{self._path}: it has {self._graph.describe(node)} {reason}")

    def _add_layer(self, node: Any) -> None:
        if not self.after.is_identity:
            raise self._error(node, f"after a scaling of the output of layer {len(self.layers)}")
        attributes = self._graph.attributes(node)
        if self._graph.is_constant(node.input[0]) or attributes.get("transA", 0):
            raise self._error(node, "whose weights are not on the right of the features")
        weight = self._graph.constant(node.input[1])
        if weight.ndim != 2:
            raise self._error(node, f"with weights of shape {weight.shape}; a layer has two dimensions")
        if not attributes.get("transB", 0):
            weight = weight.T
        weight = _single(weight, attributes.get("alpha", 1.0))
        self._has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = np.zeros(len(weight), dtype=np.float32)
        if self._has_bias:
            bias = self._bias(node, self._graph.constant(node.input[2]), len(weight), attributes.get("beta", 1.0))
        self.layers.append(DenseLayer(node.name or node.output[0], weight, bias, LINEAR))

    def _bias(self, node: Any, value: NDArray[Any], size: int, factor: float = 1.0) -> NDArray[np.float32]:
        if value.size not in (1, size):
            raise self._error(node, f"with a bias of shape {value.shape} for {size} units")
        return np.broadcast_to(_single(value.reshape(-1), factor), (size,))

    def _add_activation(self, node: Any, operator: str) -> None:
        if not self.after.is_identity:
            raise self._error(node, f"after a scaling of the output of layer {len(self.layers)}")
        if operator == "Elu" and self._graph.attributes(node).get("alpha", 1.0) != 1.0:
            raise self._error(node, "with an alpha other than 1")
        last = self.layers[-1]
        self.layers[-1] = DenseLayer(last.name, last.weight, last.bias, operator.lower())

    def _add_clip(self, node: Any) -> None:
        attributes = self._graph.attributes(node)
        bounds = [attributes.get("min"), attributes.get("max")]
        for position, name in enumerate(node.input[1:]):
            if name:
                bounds[position] = self._graph.constant(name)
        low, high = (np.nan if bound is None else float(np.asarray(bound).reshape(-1)[0]) for bound in bounds)
        if not (low == -high and high > 0.0):
            raise self._error(node, f"with the bounds {low} and {high}; this package clips to +- one value")
        self.clip = high

    def _add_elementwise(self, node: Any) -> None:
        factor, shift = self._affine(node)
        if not self.layers:
            if self.clip is not None:
                raise self._error(node, "after the clipping of the features")
            self.before = self.before.then(factor, shift)
            return
        last = self.layers[-1]
        if last.activation != LINEAR:
            raise self._error(node, f"between the activation of layer {len(self.layers)} and the next layer")
        if not self._has_bias and node.op_type == "Add" and self.after.is_identity:
            self.layers[-1] = DenseLayer(last.name, last.weight, self._bias(node, shift, last.n_outputs), LINEAR)
            self._has_bias = True
        else:
            self.after = self.after.then(factor, shift)

    def _affine(self, node: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return factor and shift of an elementwise operation with constants."""
        if node.op_type == "BatchNormalization":
            gamma, beta, mean, variance = (self._vector(name) for name in node.input[1:5])
            factor = gamma / np.sqrt(variance + self._graph.attributes(node).get("epsilon", 1e-5))
            return factor, beta - mean * factor
        constant_first = self._graph.is_constant(node.input[0])
        value = self._vector(node.input[0 if constant_first else 1])
        one, zero = np.ones(1), np.zeros(1)
        if node.op_type == "Add":
            return one, value
        if node.op_type == "Sub":
            return (-one, value) if constant_first else (one, -value)
        if node.op_type == "Mul":
            return value, zero
        if constant_first or not np.all(value):
            raise self._error(node, "that divides by the features, or by zero")
        return 1.0 / value, zero

    def _vector(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self._graph.constant(name), dtype=np.float64).reshape(-1)


def _single(array: NDArray[Any], factor: float) -> NDArray[np.float32]:
    """Return weights in single precision; a gigabyte is copied only where it must be."""
    return np.asarray(array if factor == 1.0 else factor * array.astype(np.float64), dtype=np.float32)
