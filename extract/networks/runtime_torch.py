"""Run a network on PyTorch: its operations exported once, pinned memory, copies that do not wait.

Keras on PyTorch calls each operation anew from Python, and copies the input of every convolution from channels last to
channels first and back, and its kernel too. So the operations are taken down once, and those that only copy are left out:
what remains are PyTorch's own on channels-last tensors, for which oneDNN and cuDNN have kernels.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from extract.networks.backbones import Network
from extract.networks.runtimes import Gpu

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.conv2d.default, _ATEN.convolution.default)
_COPIES = (_ATEN.clone.default, _ATEN._to_copy.default, _ATEN.lift_fresh_copy.default)


def find_gpu() -> Gpu | None:
    """Give PyTorch's current CUDA device."""
    if not torch.cuda.is_available():
        return None
    return Gpu(torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False))


class TorchRuntime:
    """The network's operations, called in inference mode; on a GPU a call returns at once, and the device works behind."""

    name, version = "torch", torch.__version__

    def __init__(self, model: keras.Model, *, batch: int) -> None:
        gpu = find_gpu()
        self.device = gpu.name if gpu else "cpu"
        pictures = np.zeros((batch, *model.input_shape[1:]), np.uint8)
        example = torch.from_numpy(pictures).to("cuda" if gpu else "cpu")
        self._call = partial(export_operations(model, example), training=False)
        torch.backends.cudnn.benchmark = True  # one batch shape: look for the fastest kernels once
        self.fetch(self.submit(pictures))

    def submit(self, pictures: NDArray[np.uint8]) -> Any:
        """Send the pictures, start the call and the way back of its outputs; see `Runtime`."""
        batch = torch.from_numpy(pictures)
        with torch.inference_mode():
            if self.device == "cpu":
                return _flatten(self._call(batch)), None
            outputs = _flatten(self._call(batch.pin_memory().to("cuda", non_blocking=True)))
            outputs = [output.to("cpu", non_blocking=True) for output in outputs]
            return outputs, torch.cuda.current_stream().record_event()

    def fetch(self, submitted: Any) -> list[NDArray[Any]]:
        """Wait for the outputs; see `Runtime`."""
        outputs, event = submitted
        if event is not None:
            event.synchronize()
        return [output.numpy() for output in outputs]


def export_operations(model: keras.Model, example: torch.Tensor) -> torch.fx.GraphModule:
    """Take down what a model does to pictures, without what does nothing to the numbers.

    Parameters
    ----------
    example : (batch, size, size, 3) uint8, where the model computes; other pictures must have its shape.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own, of its own
        # No operation of what is taken down changes a tensor in place: a copy that is left out is missed by none.
        program = torch.export.export(model, (example,), {"training": False}, strict=False).run_decompositions({})
        module = program.module()
        for node in list(module.graph.nodes):
            if node.op == "call_function":
                _simplify(module, node)
        for node in list(module.graph.nodes):
            if node.target in _CONVOLUTIONS:
                _complete(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _simplify(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Leave a node out where it only checks or copies, and reckon it now where all that it takes is constant."""
    graph, inputs = module.graph, node.all_input_nodes
    if node.target is _ATEN._assert_tensor_metadata.default:
        graph.erase_node(node)
    elif node.target in _COPIES and _kind(node) == _kind(inputs[0]):
        node.replace_all_uses_with(inputs[0])
        graph.erase_node(node)
    elif inputs and all(one.op == "get_attr" for one in inputs):
        args, options = torch.fx.node.map_arg((node.args, node.kwargs), partial(_value, module))
        name = f"constant_{node.name}"
        module.register_buffer(name, node.target(*args, **options))
        with graph.inserting_before(node):
            constant = graph.get_attr(name)
        constant.meta = node.meta
        node.replace_all_uses_with(constant)
        graph.erase_node(node)
    elif node.target is _ATEN.view.default:  # it asks for memory in one order, which a copy had made
        node.target = _ATEN.reshape.default


def _complete(module: torch.fx.GraphModule, conv: torch.fx.Node) -> None:
    """Give a convolution its kernel in the order that it takes, and the bias that Keras adds after it."""
    pictures, kernel, *rest = conv.args
    if kernel.op == "get_attr":
        setattr(module, str(kernel.target), _value(module, kernel).contiguous(memory_format=torch.channels_last))
    add = _addition_after(conv)
    if rest[:1] in ([], [None]) and add is not None:
        name = f"bias_{conv.name}"
        module.register_buffer(name, _value(module, add.args[1]).reshape(-1))
        with module.graph.inserting_before(conv):
            bias = module.graph.get_attr(name)
        conv.args = (pictures, kernel, bias, *rest[1:])
        add.replace_all_uses_with(add.args[0])
        module.graph.erase_node(add)


def _addition_after(conv: torch.fx.Node) -> torch.fx.Node | None:
    """Give the node that adds a constant for each channel to what a convolution gives, where nothing else takes that."""
    turn = _only_user(conv, _ATEN.permute.default)
    add = _only_user(turn, _ATEN.add.Tensor) if turn is not None and list(turn.args[1]) == [0, 2, 3, 1] else None
    if add is None or add.args[0] is not turn or getattr(add.args[1], "op", "") != "get_attr":
        return None
    is_bias = tuple(add.args[1].meta["val"].shape) == (1, 1, 1, conv.meta["val"].shape[1])
    return add if is_bias and _kind(add) == _kind(conv) else None


def _only_user(node: torch.fx.Node, target: Any) -> torch.fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _kind(node: torch.fx.Node) -> tuple[torch.dtype, torch.device]:
    value = node.meta["val"]
    return value.dtype, value.device


def _value(module: torch.fx.GraphModule, node: torch.fx.Node) -> torch.Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _flatten(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def compile_network(network: Network, *, batch: int, precision: str) -> TorchRuntime:  # noqa: ARG001  (the network has it)
    """Export a network, and warm it up."""
    return TorchRuntime(network.model, batch=batch)
