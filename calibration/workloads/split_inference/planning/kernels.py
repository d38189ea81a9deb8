"""What each kind of layer computes, on some rows or on the whole map.

A kernel gets blocks that hold exactly the input rows its output rows depend on; rows outside the
map are present in the block and hold the padding value. So vertical padding never reaches torch,
and every interior cut is computed by the same call as the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch itself uses
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.split_inference.planning.layers import Layer, Rows

Weights = Mapping[str, Tensor]
Kernel = Callable[..., Tensor]

#: Pointwise layers by name: tensor and the layer's scalars -> tensor.
POINTWISE: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "add_scalar": torch.add,
    "mul_scalar": torch.mul,
}

#: Of these, the ones that can overwrite their input.
IN_PLACE: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu_,
    "relu6": partial(F.relu6, inplace=True),
    "leaky_relu": F.leaky_relu_,
    "elu": F.elu_,
    "silu": partial(F.silu, inplace=True),
    "hardswish": partial(F.hardswish, inplace=True),
    "hardsigmoid": partial(F.hardsigmoid, inplace=True),
    "hardtanh": F.hardtanh_,
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
}

#: Pooling pads with minus infinity, everything else with zero.
PADDING_VALUE = {"max_pool": float("-inf")}


def _weight_and_bias(layer: Layer, weights: Weights) -> tuple[Tensor, Tensor | None]:
    kernel, bias = layer.weights
    return weights[kernel], weights[bias] if bias else None


def _conv(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    o = layer.options
    weight, bias = _weight_and_bias(layer, weights)
    left, right = o["padding_w"]
    stride, dilation, groups = list(o["stride"]), list(o["dilation"]), o["groups"]
    if left == right:
        return lambda x: torch.conv2d(x, weight, bias, stride, (0, left), dilation, groups)
    # padding="same" with an even kernel
    return lambda x: torch.conv2d(
        F.pad(x, (left, right)), weight, bias, stride, 0, dilation, groups
    )


def _batch_norm(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    mean, var, weight, bias = (weights[k] if k else None for k in layer.weights)
    eps = layer.options["eps"]
    return lambda x: torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)


def _max_pool(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    arguments = _max_pool_arguments(layer)
    return lambda x: torch.max_pool2d(x, *arguments)


def _max_pool_arguments(layer: Layer) -> tuple[Any, ...]:
    o = layer.options
    return o["kernel"], o["stride"], [0, o["padding"][1]], o["dilation"], o["ceil_mode"]


def _avg_pool(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    o = layer.options
    pad, divisor = (0, o["padding"][1]), o["divisor_override"]
    kernel, stride, ceil, count = o["kernel"], o["stride"], o["ceil_mode"], o["count_include_pad"]
    if divisor is not None or not _counts_differ(layer, rows):
        return lambda x: F.avg_pool2d(x, kernel, stride, pad, ceil, count, divisor)

    # torch would count the rows of this block; the divisor depends on the rows of the map.
    def run(x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, kernel, stride, pad, ceil, True, 1)
        tall = [_window_count(layer, r, 0) for r in range(rows.lo, rows.hi)]
        wide = [_window_count(layer, c, 1) for c in range(total.shape[-1])]
        divisors = torch.tensor(tall, dtype=x.dtype)[:, None] * torch.tensor(wide, dtype=x.dtype)
        return total / divisors  # (N, C, rows, columns) / (rows, columns)

    return run


def _counts_differ(layer: Layer, rows: Rows) -> bool:
    """Whether a window of these output rows leaves what torch counts as part of the map."""
    o, need = layer.options, layer.needs(rows)
    margin = o["padding"][0] if o["count_include_pad"] else 0
    return need.lo < -margin or need.hi > o["size"][0] + margin


def _window_count(layer: Layer, out: int, axis: int) -> int:
    """Return how many positions torch divides by along one axis, for output index `out`."""
    o = layer.options
    size: int = o["size"][axis]
    pad: int = o["padding"][axis]
    kernel: int = o["kernel"][axis]
    start = out * int(o["stride"][axis]) - pad
    end = min(start + kernel, size + pad)
    if o["count_include_pad"]:
        return end - start
    return min(end, size) - max(start, 0)


def _pointwise(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    function, scalars = POINTWISE[layer.options["function"]], layer.options["scalars"]
    return (lambda x: function(x, *scalars)) if scalars else function


def _add(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    return torch.add


def _mul(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    return torch.mul


def _cat(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    return lambda *maps: torch.cat(maps, dim=1)


#: Every kind of layer that can be split; each entry makes the function for some output rows.
KERNELS: dict[str, Callable[[Layer, Weights, Rows], Kernel]] = {
    "conv": _conv,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "pointwise": _pointwise,
    "add": _add,
    "mul": _mul,
    "cat": _cat,
}


def bind(layer: Layer, weights: Weights, rows: Rows) -> Kernel:
    """Return the function that computes output rows `rows` of a layer.

    Parameters
    ----------
    rows : Rows
        The output rows, in the coordinates of the whole map.

    Returns
    -------
    callable
        Takes one (N, C, layer.needs(rows).count, W) block for each input, padding rows included;
        returns the (N, C', rows.count, W') block.
    """
    return KERNELS[layer.kind](layer, weights, rows)


#: Kinds that :func:`bind_into` computes without a copy.
WRITES_INTO = ("batch_norm", "max_pool", "add")


def bind_into(target: Tensor, layer: Layer, weights: Weights, rows: Rows) -> Callable[..., object]:
    """Return the same, writing straight into `target`: without a copy where torch allows it."""
    if layer.kind == "pointwise" and layer.options["function"] == "relu":
        return lambda x: torch.clamp_min(x, 0, out=target)  # torch.relu, with an `out`
    if layer.kind == "add":
        return lambda x, y: torch.add(x, y, out=target)
    if layer.kind == "batch_norm" and target.is_contiguous(memory_format=torch.channels_last):
        return _batch_norm_into(target, layer, weights)
    if layer.kind == "max_pool":
        arguments, pool = _max_pool_arguments(layer), torch.ops.aten.max_pool2d_with_indices.out
        # Nobody reads the indices: memory that was just freed is still in the cache for them.
        return lambda x: pool(
            x, *arguments, out=target, indices=torch.empty_like(target, dtype=torch.int64)
        )
    kernel = bind(layer, weights, rows)
    return lambda *blocks: target.copy_(kernel(*blocks))


def _batch_norm_into(target: Tensor, layer: Layer, weights: Weights) -> Callable[..., object]:
    mean, var, weight, bias = (weights[k] if k else None for k in layer.weights)
    eps, norm = layer.options["eps"], torch.ops.aten.native_batch_norm.out
    saved = {"save_mean": target.new_empty(0), "save_invstd": target.new_empty(0)}
    return lambda x: norm(x, weight, bias, mean, var, False, 0.0, eps, out=target, **saved)


def overwrites(layers: Sequence[Layer], index: int, keep: Collection[int]) -> bool:
    """Whether a layer may write its output over its input.

    Parameters
    ----------
    index : int
        Of the layer in question.
    keep : collection of int
        Feature maps that are wanted afterwards, or that others own.
    """
    layer = layers[index]
    if layer.kind != "pointwise" or layer.options["function"] not in IN_PLACE:
        return False
    (source,) = layer.inputs
    readers = sum(source in other.inputs for other in layers)
    return readers == 1 and source != 0 and source not in keep


def in_place(layer: Layer) -> Kernel:
    """Return the function that writes a pointwise layer's output over its input."""
    function, scalars = IN_PLACE[layer.options["function"]], layer.options["scalars"]
    return (lambda x: function(x, *scalars)) if scalars else function


def whole_layer(layer: Layer, maps: Sequence[Tensor], weights: Weights) -> Tensor:
    """Compute a layer on whole maps, by the call the network itself would make.

    This is the fair baseline; on meta tensors it yields the output's shape.
    """
    o, x = layer.options, maps[0]
    if layer.kind == "conv":
        weight, bias = _weight_and_bias(layer, weights)
        stride, dilation, groups = tuple(o["stride"]), tuple(o["dilation"]), o["groups"]
        if o["same"]:
            return F.conv2d(x, weight, bias, stride, "same", dilation, groups)
        return F.conv2d(x, weight, bias, stride, tuple(o["padding"]), dilation, groups)
    if layer.kind == "max_pool":
        return F.max_pool2d(
            x, o["kernel"], o["stride"], o["padding"], o["dilation"], ceil_mode=o["ceil_mode"]
        )
    if layer.kind == "avg_pool":
        return F.avg_pool2d(
            x,
            o["kernel"],
            o["stride"],
            o["padding"],
            o["ceil_mode"],
            o["count_include_pad"],
            o["divisor_override"],
        )
    return bind(layer, weights, Rows(0, x.shape[-2]))(*maps)


def whole_trunk(
    layers: Sequence[Layer],
    x: Tensor,
    weights: Weights,
    keep: Sequence[int],
    marks: NDArray[np.int64] | None = None,
) -> list[Tensor]:
    """Run all layers on the whole map, freeing each map after its last reader.

    Activations overwrite their inputs where nobody else reads them, as they do in a part.

    Parameters
    ----------
    x : (N, C, H, W) Tensor
    keep : sequence of int
        Feature maps to return.
    marks : (layers, 2) int array, optional
        Receives start and end of every layer, ns.

    Returns
    -------
    list of Tensor
        The maps named by `keep`, in that order.
    """
    last: dict[int, int] = {t: i for i, layer in enumerate(layers) for t in layer.inputs}
    maps: dict[int, Tensor] = {0: x}
    direct = {i: in_place(layer) for i, layer in enumerate(layers) if overwrites(layers, i, keep)}
    for i, layer in enumerate(layers):
        inputs = [maps[t] for t in layer.inputs]
        start = perf_counter_ns()
        maps[i + 1] = direct[i](*inputs) if i in direct else whole_layer(layer, inputs, weights)
        if marks is not None:
            marks[i] = start, perf_counter_ns()
        for t in layer.inputs:
            if last[t] == i and t not in keep:
                maps.pop(t, None)
    return [maps[t] for t in keep]


def json_scalars(values: Sequence[Any]) -> list[float | int | bool | str]:
    """Return a layer's scalars as JSON values; raise TypeError for anything that is not one."""
    out: list[float | int | bool | str] = []
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise TypeError(f"not a scalar: {value!r}")
        out.append(value)
    return out
