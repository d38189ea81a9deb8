"""What each kind of layer computes, on some rows or on the whole map.

A kernel gets blocks that hold exactly the input rows its output rows depend on; rows outside the
map are present in the block and hold the padding value. So vertical padding never reaches torch,
and every interior cut is computed by the same call as the whole map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from calibration.workloads.split_inference.layers import Layer, Rows

Weights = Mapping[str, Tensor]

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

#: Pooling pads with minus infinity, everything else with zero.
PADDING_VALUE = {"max_pool": float("-inf")}


def _conv(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    o, (x,) = layer.options, blocks
    weight, bias = (weights[k] if k else None for k in layer.weights)
    left, right = o["padding_w"]
    if left != right:  # padding="same" with an even kernel
        x, left = F.pad(x, (left, right)), 0
    return F.conv2d(x, weight, bias, tuple(o["stride"]), (0, left), tuple(o["dilation"]), o["groups"])


def _batch_norm(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    mean, var, weight, bias = (weights[k] if k else None for k in layer.weights)
    return F.batch_norm(blocks[0], mean, var, weight, bias, False, 0.0, layer.options["eps"])


def _max_pool(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    o = layer.options
    pad = (0, o["padding"][1])
    return F.max_pool2d(
        blocks[0], o["kernel"], o["stride"], pad, o["dilation"], ceil_mode=o["ceil_mode"]
    )


def _avg_pool(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    o, (x,) = layer.options, blocks
    pad, divisor = (0, o["padding"][1]), o["divisor_override"]
    if divisor is None and _counts_differ(layer, rows):
        # torch would count the rows of this block; the divisor depends on the rows of the map.
        total = F.avg_pool2d(x, o["kernel"], o["stride"], pad, o["ceil_mode"], True, 1)
        tall = [_window_count(layer, r, 0) for r in range(rows.lo, rows.hi)]
        wide = [_window_count(layer, c, 1) for c in range(total.shape[-1])]
        tall_t = torch.tensor(tall, dtype=x.dtype, device=x.device)  # (rows,)
        wide_t = torch.tensor(wide, dtype=x.dtype, device=x.device)  # (columns,)
        return total / (tall_t[:, None] * wide_t)
    return F.avg_pool2d(
        x, o["kernel"], o["stride"], pad, o["ceil_mode"], o["count_include_pad"], divisor
    )


def _counts_differ(layer: Layer, rows: Rows) -> bool:
    """Whether a window of these output rows leaves what torch counts as part of the map."""
    o, need = layer.options, layer.needs(rows)
    margin = o["padding"][0] if o["count_include_pad"] else 0
    return need.lo < -margin or need.hi > o["size"][0] + margin


def _window_count(layer: Layer, out: int, axis: int) -> int:
    """Return how many positions torch divides by along one axis, for output index `out`."""
    o = layer.options
    size, pad, kernel = o["size"][axis], o["padding"][axis], o["kernel"][axis]
    start = out * o["stride"][axis] - pad
    end = min(start + kernel, size + pad)
    if o["count_include_pad"]:
        return end - start
    return min(end, size) - max(start, 0)


def _pointwise(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    return POINTWISE[layer.options["function"]](blocks[0], *layer.options["scalars"])


def _add(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    return torch.add(blocks[0], blocks[1])


def _mul(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    return torch.mul(blocks[0], blocks[1])


def _cat(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    return torch.cat(list(blocks), dim=1)


Kernel = Callable[[Layer, Sequence[Tensor], Weights, Rows], Tensor]

#: Every kind of layer that can be split.
KERNELS: dict[str, Kernel] = {
    "conv": _conv,
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "pointwise": _pointwise,
    "add": _add,
    "mul": _mul,
    "cat": _cat,
}


def compute(layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows) -> Tensor:
    """Compute output rows `rows` of a layer.

    Parameters
    ----------
    layer : Layer
    blocks : sequence of (N, C, layer.needs(rows).count, W) Tensor
        One for each input, padding rows included.
    weights : mapping of str to Tensor
    rows : Rows
        The output rows, in the coordinates of the whole map.

    Returns
    -------
    (N, C', rows.count, W') Tensor
    """
    return KERNELS[layer.kind](layer, blocks, weights, rows)


def compute_into(
    out: Tensor, layer: Layer, blocks: Sequence[Tensor], weights: Weights, rows: Rows
) -> None:
    """Compute output rows `rows` straight into `out`, without a copy where torch allows it."""
    if layer.kind == "pointwise" and layer.options["function"] == "relu":
        torch.clamp_min(blocks[0], 0, out=out)  # what torch.relu computes, with an `out`
    elif layer.kind == "add":
        torch.add(blocks[0], blocks[1], out=out)
    else:
        out.copy_(compute(layer, blocks, weights, rows))


def whole_layer(layer: Layer, maps: Sequence[Tensor], weights: Weights) -> Tensor:
    """Compute a layer on whole maps, by the call the network itself would make.

    This is the honest baseline, and on meta tensors it tells the output's shape.
    """
    o, x = layer.options, maps[0]
    if layer.kind == "conv":
        weight, bias = (weights[k] if k else None for k in layer.weights)
        stride, dilation, groups = tuple(o["stride"]), tuple(o["dilation"]), o["groups"]
        padding = "same" if o["same"] else tuple(o["padding"])
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
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
    return compute(layer, maps, weights, Rows(0, x.shape[-2]))


def whole_trunk(
    layers: Sequence[Layer],
    x: Tensor,
    weights: Weights,
    keep: Sequence[int],
    marks: NDArray[np.int64] | None = None,
) -> list[Tensor]:
    """Run all layers on the whole map, freeing each map after its last reader.

    Parameters
    ----------
    layers : sequence of Layer
    x : (N, C, H, W) Tensor
    weights : mapping of str to Tensor
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
    for i, layer in enumerate(layers):
        start = perf_counter_ns()
        maps[i + 1] = whole_layer(layer, [maps[t] for t in layer.inputs], weights)
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
