"""Export a Keras model's operations on PyTorch once, without those that only copy.

Keras on PyTorch calls each operation anew from Python, copies the input and the kernel of every
convolution from channels last to channels first and back, and takes a batch norm through the whole
map three times in float32. What remains here are PyTorch's own operations on channels-last tensors,
for which oneDNN and cuDNN have kernels.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import keras
import torch

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.conv2d.default, _ATEN.convolution.default)
_COPIES = (_ATEN.clone.default, _ATEN._to_copy.default, _ATEN.lift_fresh_copy.default)
_VIEWS = (_ATEN.view.default, _ATEN._unsafe_view.default)
# the order of axes: channels first, channels last
_TO_FIRST = [0, 3, 1, 2]
_TO_LAST = [0, 2, 3, 1]


def export_operations(model: keras.Model, example: torch.Tensor) -> torch.fx.GraphModule:
    """Export what a model does to pictures; called as the model is, with `training=False`.

    Parameters
    ----------
    example : (batch, size, size, 3) uint8, on the model's device; later pictures have its shape.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's own
        # No exported operation changes a tensor in place, so that copies can be left out.
        program = torch.export.export(
            model, (example,), {"training": False}, strict=False
        ).run_decompositions({})
        module = program.module()
        for node in _operations(module):
            _simplify(module, node)
        for node in _operations(module):
            if node.target in _CONVOLUTIONS:
                _complete_convolution(module, node)
            elif node.target is _ATEN.subtract.Tensor:
                _join_norm(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _operations(module: torch.fx.GraphModule) -> list[torch.fx.Node]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


def _simplify(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Remove a node that only checks or copies; compute one of constants now."""
    graph = module.graph
    inputs = node.all_input_nodes
    if node.target is _ATEN._assert_tensor_metadata.default:
        graph.erase_node(node)
    elif node.target in _COPIES and _kind(node) == _kind(inputs[0]):
        node.replace_all_uses_with(inputs[0])
        graph.erase_node(node)
    elif inputs and all(map(_is_constant, inputs)):
        args, options = torch.fx.node.map_arg((node.args, node.kwargs), partial(_value, module))
        node.replace_all_uses_with(_register(module, node.target(*args, **options), before=node))
        graph.erase_node(node)
    elif node.target in _VIEWS:  # they ask for memory in one order, which a copy had made
        node.target = _ATEN.reshape.default


def _complete_convolution(module: torch.fx.GraphModule, conv: torch.fx.Node) -> None:
    """Give a convolution its kernel in channels-last order, and the bias that Keras adds later."""
    pictures, kernel, *rest = conv.args
    if _is_constant(kernel):
        value = _value(module, kernel).contiguous(memory_format=torch.channels_last)
        conv.args = (pictures, _register(module, value, before=conv), *rest)
    steps = _follow(conv, _ATEN.permute.default, _ATEN.add.Tensor)
    if len(steps) < 2 or rest[:1] not in ([], [None]):
        return
    turn, add = steps
    is_last = list(turn.args[1]) == _TO_LAST
    n_channels = conv.meta["val"].shape[1]
    if is_last and _takes_one_a_channel(add, turn, n_channels) and _kind(add) == _kind(conv):
        bias = _register(module, _value(module, add.args[1]).reshape(-1), before=conv)
        conv.args = (*conv.args[:2], bias, *rest[1:])
        add.replace_all_uses_with(turn)
        module.graph.erase_node(add)


def _join_norm(module: torch.fx.GraphModule, minus: torch.fx.Node) -> None:
    """Join a batch norm into one operation, which computes in float32 as Keras does."""
    given = minus.args[0]
    steps = [minus, *_follow(minus, _ATEN.mul.Tensor, _ATEN.add.Tensor)]
    if len(steps) < 3 or not isinstance(given, torch.fx.Node) or given.meta["val"].ndim != 4:
        return
    n_channels = given.meta["val"].shape[3]
    end = steps[2]
    if not all(_takes_one_a_channel(steps[i], [given, *steps][i], n_channels) for i in range(3)):
        return
    for back in _follow(end, _ATEN._to_copy.default):
        if given.target is _ATEN._to_copy.default and _kind(back) == _kind(given.args[0]):
            given = given.args[0]
            end = back
    constants = [_value(module, step.args[1]).reshape(-1) for step in steps]
    mean, scale, shift, one = (
        _register(module, value, before=end)
        for value in (*constants, torch.ones_like(constants[0]))
    )
    with module.graph.inserting_before(end):
        turned = module.graph.call_function(_ATEN.permute.default, (given, _TO_FIRST))
        norm = module.graph.call_function(
            _ATEN.batch_norm.default, (turned, scale, shift, mean, one, False, 0.0, 0.0, True)
        )
        normed = module.graph.call_function(_ATEN.permute.default, (norm, _TO_LAST))
    normed.meta["val"] = end.meta["val"]
    end.replace_all_uses_with(normed)


def _follow(node: torch.fx.Node, *targets: Any) -> list[torch.fx.Node]:
    """Return the operations that follow a node, as long as they are these and its only users."""
    found: list[torch.fx.Node] = []
    for target in targets:
        users = list((found or [node])[-1].users)
        if len(users) != 1 or users[0].target is not target:
            break
        found.append(users[0])
    return found


def _takes_one_a_channel(node: torch.fx.Node, given: torch.fx.Node, n_channels: int) -> bool:
    """Return whether a node takes just another's channels-last map and a constant a channel."""
    if (
        len(node.args) != 2
        or node.kwargs
        or node.args[0] is not given
        or not _is_constant(node.args[1])
    ):
        return False
    return tuple(node.args[1].meta["val"].shape) == (1, 1, 1, n_channels)


def _is_constant(node: Any) -> bool:
    return isinstance(node, torch.fx.Node) and node.op == "get_attr"


def _kind(node: torch.fx.Node) -> tuple[torch.dtype, torch.device]:
    value = node.meta["val"]
    return value.dtype, value.device


def _value(module: torch.fx.GraphModule, node: torch.fx.Node) -> torch.Tensor:
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _register(
    module: torch.fx.GraphModule, value: torch.Tensor, *, before: torch.fx.Node
) -> torch.fx.Node:
    """Register a constant in the module; return its node."""
    name = f"constant_{len(list(module.buffers()))}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node
