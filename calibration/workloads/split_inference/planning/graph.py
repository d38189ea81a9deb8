"""A network as a list of row-local layers and a head: what the planner plans over.

:func:`trace` reads a network with ``torch.fx`` into a :class:`Graph`: the *trunk*, whose layers
map rows of a feature map to rows of a feature map, and the *head*, everything from the first
layer that needs the whole map (flatten, global pooling) onwards. Nothing is executed here and
nothing is split; a layer that is neither is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from calibration.workloads.split_inference.errors import PlanError
from calibration.workloads.split_inference.planning.kernels import whole_layer
from calibration.workloads.split_inference.planning.layers import Layer, Shape
from calibration.workloads.split_inference.planning.recognise import (
    SUPPORTED,
    is_gathering,
    is_windowed,
    recognise,
)
from kdsim._types import Record


@dataclass(frozen=True, eq=False)
class Graph:
    """The trunk of a network as layers over numbered feature maps, and its head.

    Feature map 0 is the input; ``layers[i]`` produces feature map ``i + 1``.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of execution.
    shapes : tuple of Shape
        Channels, height and width of each feature map.
    sinks : tuple of int
        Feature maps that the head reads, in the order of its arguments.
    weights : mapping of str to Tensor
        Parameters and buffers that the layers name.
    head : callable
        Takes the gathered sinks, returns the network's output.
    memory_format : torch.memory_format
        The layout in which the network itself would run.
    """

    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    sinks: tuple[int, ...]
    weights: Mapping[str, Tensor]
    head: Callable[..., Tensor] = field(repr=False)
    memory_format: torch.memory_format = torch.contiguous_format

    def consumers(self, tensor: int) -> list[int]:
        """Return the indices of the layers that read feature map `tensor`."""
        return [i for i, layer in enumerate(self.layers) if tensor in layer.inputs]

    def name(self, tensor: int) -> str:
        """Return a feature map's name for messages: that of the layer that produces it."""
        return "the input" if tensor == 0 else self.layers[tensor - 1].name


def trace(net: nn.Module, input_shape: tuple[int, ...]) -> Graph:
    """Read a network into its trunk and head, as it computes in evaluation mode.

    Parameters
    ----------
    net : nn.Module
        Not changed, whatever mode it is in.
    input_shape : (C, H, W) or (N, C, H, W)
        The shape of one input.

    Raises
    ------
    PlanError
        If the network cannot be traced, or a layer before the head cannot be split by rows.
    """
    shape = image_shape(input_shape)
    view = evaluation_view(net)
    try:
        traced = fx.Tracer().trace(view)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise PlanError(
            f"{type(net).__name__} cannot be traced by torch.fx, so it cannot be planned: {error}"
        ) from error
    return _Reader(view, traced, shape).read()


def image_shape(input_shape: tuple[int, ...]) -> Shape:
    """Return channels, height and width of an input shape with or without the batch dimension.

    Raises
    ------
    PlanError
        If it has neither 3 nor 4 positive entries.
    """
    entries = tuple(int(n) for n in input_shape)
    if len(entries) not in (3, 4) or min(entries) < 1:
        raise PlanError(
            f"input_shape must be (C, H, W) or (N, C, H, W) with positive entries, got {entries}"
        )
    return Shape(*entries[-3:])


def evaluation_view(net: nn.Module) -> nn.Module:
    """Return a copy of the module tree in evaluation mode that shares every tensor with `net`."""
    copies: dict[int, nn.Module] = {}

    def visit(module: nn.Module) -> nn.Module:
        if id(module) not in copies:
            twin = copies[id(module)] = copy.copy(module)
            twin.training = False
            twin._modules = {
                name: None if child is None else visit(child)
                for name, child in module._modules.items()
            }
        return copies[id(module)]

    return visit(net)


class _Reader:
    """Walks the nodes of one traced graph; lives for one call of :func:`trace`."""

    def __init__(self, root: nn.Module, traced: fx.Graph, shape: Shape) -> None:
        self.root = root
        self.traced = traced
        self.layers: list[Layer] = []
        self.shapes: list[Shape] = [shape]
        self.weights: dict[str, Tensor] = {}
        self.maps: dict[fx.Node, int] = {}  # trunk nodes -> feature map
        self.head: list[fx.Node] = []
        self.gathered: set[fx.Node] = set()  # head nodes that are not mere constants
        self.first_gathering: str | None = None
        self.modules = dict(root.named_modules())

    def read(self) -> Graph:
        for node in self.traced.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op != "output" and any(n in self.maps for n in node.all_input_nodes):
                self._trunk_or_head(node)
            else:
                self._head_node(node)
        if not self.layers:
            raise PlanError(
                f"{type(self.root).__name__} has no layer that can be split by rows: it starts "
                f"with {self.first_gathering or 'its output'}"
            )
        sinks = self._sinks()
        return Graph(
            layers=tuple(self.layers),
            shapes=tuple(self.shapes),
            sinks=sinks,
            weights=self.weights,
            head=self._build_head(sinks),
            memory_format=_layout(self.layers, self.weights),
        )

    def _placeholder(self, node: fx.Node) -> None:
        if self.maps:
            if node.args or node.users:
                raise PlanError(
                    f"only networks with one input can be split; {node.name} is a second one"
                )
            return
        self.maps[node] = 0

    def _trunk_or_head(self, node: fx.Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if self.gathered.intersection(node.all_input_nodes) or is_gathering(node, module):
            # A map that meets a gathered value, or a layer that needs every row.
            self._head_node(node)
            return
        found = recognise(node, module)
        if found is None or not all(n in self.maps for n in found.inputs):
            raise PlanError(
                f"layer {_label(node)} ({_type(node, module)}) cannot be split by rows. "
                f"Supported before the head: {SUPPORTED}"
            )
        inputs = tuple(self.maps[n] for n in found.inputs)
        if found.layer is None:  # an identity in evaluation mode
            self.maps[node] = inputs[0]
            return
        layer = found.layer(_label(node), inputs)
        self.weights.update(found.weights(layer.name))
        self._append(node, layer, in_place=found.in_place)

    def _append(self, node: fx.Node, layer: Layer, *, in_place: bool) -> None:
        inputs = [self.shapes[t].meta() for t in layer.inputs]
        heights = {x.shape[-2] for x in inputs}
        if len(heights) > 1:
            raise PlanError(
                f"layer {layer.name} ({layer.kind}) joins maps of different heights "
                f"{sorted(heights)}; only maps of the same height can be split together"
            )
        if layer.kind == "avg_pool":
            layer = replace(layer, options={**layer.options, "size": list(inputs[0].shape[-2:])})
        meta = {key: self.weights[key].to("meta") for key in layer.weights if key}
        try:
            out = whole_layer(layer, inputs, meta)
        except RuntimeError as error:
            raise PlanError(
                f"layer {layer.name} does not fit its input "
                f"{', '.join(str(tuple(x.shape[1:])) for x in inputs)}: {error}"
            ) from error
        self.layers.append(layer)
        self.shapes.append(Shape(*out.shape[1:]))
        new = len(self.layers)
        if in_place:
            # Every name of the overwritten map means the new values from here on.
            old = layer.inputs[0]
            self.maps.update({n: new for n, t in self.maps.items() if t == old})
        self.maps[node] = new

    def _head_node(self, node: fx.Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if self.first_gathering is None and node.op not in ("get_attr", "output"):
            self.first_gathering = f"{_label(node)} ({_type(node, module)})"
        if is_windowed(node, module):
            raise PlanError(
                f"layer {_label(node)} ({_type(node, module)}) works on a feature map after "
                f"{self.first_gathering} has gathered all rows; such a network cannot be split"
            )
        self.head.append(node)
        if node.op != "get_attr":
            self.gathered.add(node)

    def _sinks(self) -> tuple[int, ...]:
        read = [self.maps[n] for h in self.head for n in h.all_input_nodes if n in self.maps]
        return tuple(dict.fromkeys(read))

    def _build_head(self, sinks: tuple[int, ...]) -> Callable[..., Tensor]:
        graph = fx.Graph()
        gathered = {t: graph.placeholder(f"map_{t}") for t in sinks}
        made: dict[fx.Node, fx.Node] = {}

        def lookup(n: fx.Node) -> fx.Node:
            return made[n] if n in made else gathered[self.maps[n]]

        used: Record = {}
        for node in self.head:
            made[node] = graph.node_copy(node, lookup)
            if node.op == "call_module":
                used[str(node.target)] = self.modules[str(node.target)]
            elif node.op == "get_attr":
                used[str(node.target)] = _attribute(self.root, str(node.target))
        return fx.GraphModule(used, graph)


def _attribute(root: nn.Module, path: str) -> Any:
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _type(node: fx.Node, module: nn.Module | None) -> str:
    if module is not None:
        return type(module).__name__
    return getattr(node.target, "__name__", str(node.target))


def _layout(layers: list[Layer], weights: Mapping[str, Tensor]) -> torch.memory_format:
    """Return the layout torch would pick: channels last as soon as one conv weight has it."""
    for layer in layers:
        if layer.kind != "conv":
            continue
        weight = weights[layer.weights[0]]
        last = weight.is_contiguous(memory_format=torch.channels_last)
        if last and not weight.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format
