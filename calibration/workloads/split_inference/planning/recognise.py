"""Tell what a node of a traced network is: a layer to split, an identity, a gathering layer.

The tables here are the list of what can be split. Nothing is guessed: a module or a function
with an option that rows cannot honour (circular padding, batch statistics) is not recognised.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch itself uses
from torch import Tensor, fx, nn

from calibration.workloads.split_inference.planning.kernels import json_scalars
from calibration.workloads.split_inference.planning.layers import Layer, Window
from kdsim._types import Record

SUPPORTED = (
    "Conv2d (zero padding), MaxPool2d, AvgPool2d, BatchNorm2d with running statistics, ReLU and "
    "other pointwise activations, Dropout, Identity, addition, multiplication, concatenation of "
    "channels"
)


@dataclass(frozen=True)
class Found:
    """A recognised node: the maps it reads, and how to make a layer of it."""

    inputs: tuple[fx.Node, ...]
    kind: str | None = None
    window: Window | None = None
    options: Record | None = None
    tensors: tuple[Tensor | None, ...] = ()
    in_place: bool = False

    @property
    def layer(self) -> Callable[[str, tuple[int, ...]], Layer] | None:
        """Make the layer from its name and feature maps; None for an identity."""
        if self.kind is None:
            return None
        return self._make

    def _make(self, name: str, inputs: tuple[int, ...]) -> Layer:
        keys = tuple(f"{name}#{i}" if t is not None else "" for i, t in enumerate(self.tensors))
        return Layer(name, self.kind or "", inputs, self.window, self.options or {}, keys)

    def weights(self, name: str) -> dict[str, Tensor]:
        """Return the layer's tensors under the keys that the layer uses."""
        return {f"{name}#{i}": t.detach() for i, t in enumerate(self.tensors) if t is not None}


def recognise(node: fx.Node, module: nn.Module | None) -> Found | None:
    """Recognise a node whose inputs are feature maps.

    Parameters
    ----------
    module : nn.Module or None
        What a ``call_module`` node calls.

    Returns
    -------
    Found or None
        None when the node cannot be split by rows.
    """
    if module is not None:
        if len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
            return None
        return _from_module(node.args[0], module)
    return _from_function(node)


# --- modules ----------------------------------------------------------------------------------


def _from_module(x: fx.Node, module: nn.Module) -> Found | None:
    kind = type(module)
    if kind is nn.Conv2d and isinstance(module, nn.Conv2d):
        return _conv(x, module)
    if kind is nn.BatchNorm2d and isinstance(module, nn.BatchNorm2d):
        if module.running_mean is None or module.running_var is None:
            return None  # would normalise by the statistics of the rows at hand
        tensors = (module.running_mean, module.running_var, module.weight, module.bias)
        return Found((x,), "batch_norm", None, {"eps": module.eps}, tensors)
    if kind is nn.MaxPool2d and not module.return_indices:
        return _pool(
            x,
            "max_pool",
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            ceil_mode=module.ceil_mode,
        )
    if kind is nn.AvgPool2d:
        return _pool(
            x,
            "avg_pool",
            module.kernel_size,
            module.stride,
            module.padding,
            1,
            ceil_mode=module.ceil_mode,
            count_include_pad=module.count_include_pad,
            divisor_override=module.divisor_override,
        )
    if kind in (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout):
        return Found((x,))
    return _activation(x, module)


def _conv(x: fx.Node, conv: nn.Conv2d) -> Found | None:
    if conv.padding_mode != "zeros":
        return None
    same = conv.padding == "same"
    if same:
        totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        top, (left, right) = totals[0] // 2, (totals[1] // 2, totals[1] - totals[1] // 2)
    else:
        padding = (0, 0) if isinstance(conv.padding, str) else conv.padding
        top, left = padding[0], padding[1]
        right = left
    options = {
        "stride": list(conv.stride),
        "dilation": list(conv.dilation),
        "groups": conv.groups,
        "padding": [top, left],
        "padding_w": [left, right],
        "same": same,
    }
    window = Window(conv.kernel_size[0], conv.stride[0], int(top), conv.dilation[0])
    return Found((x,), "conv", window, options, (conv.weight, conv.bias))


def _pool(
    x: fx.Node, kind: str, kernel: Any, stride: Any, padding: Any, dilation: Any, **options: Any
) -> Found:
    k, p, d = _pair(kernel), _pair(padding), _pair(dilation)
    s = k if stride is None else _pair(stride)
    options |= {"kernel": k, "stride": s, "padding": p, "dilation": d}
    return Found((x,), kind, Window(k[0], s[0], p[0], d[0]), options)


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if isinstance(value, int) else [int(v) for v in value]


def _activation(x: fx.Node, module: nn.Module) -> Found | None:
    scalars: dict[type[nn.Module], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
        nn.ReLU: ("relu", lambda m: ()),
        nn.ReLU6: ("relu6", lambda m: ()),
        nn.LeakyReLU: ("leaky_relu", lambda m: (m.negative_slope,)),
        nn.ELU: ("elu", lambda m: (m.alpha,)),
        nn.SiLU: ("silu", lambda m: ()),
        nn.Hardswish: ("hardswish", lambda m: ()),
        nn.Hardsigmoid: ("hardsigmoid", lambda m: ()),
        nn.Hardtanh: ("hardtanh", lambda m: (m.min_val, m.max_val)),
        nn.Sigmoid: ("sigmoid", lambda m: ()),
        nn.Tanh: ("tanh", lambda m: ()),
    }
    if type(module) is nn.GELU and module.approximate == "none":
        return _pointwise(x, "gelu", ())
    if type(module) not in scalars:
        return None
    function, values = scalars[type(module)]
    return _pointwise(x, function, values(module), in_place=getattr(module, "inplace", False))


def _pointwise(
    x: fx.Node, function: str, scalars: tuple[Any, ...], *, in_place: bool = False
) -> Found:
    options = {"function": function, "scalars": json_scalars(scalars)}
    return Found((x,), "pointwise", None, options, in_place=in_place)


# --- functions and methods --------------------------------------------------------------------

_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    F.relu: "relu",
    F.relu6: "relu6",
    F.leaky_relu: "leaky_relu",
    F.elu: "elu",
    F.silu: "silu",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    torch.sigmoid: "sigmoid",
    F.sigmoid: "sigmoid",
    torch.tanh: "tanh",
    F.tanh: "tanh",
    "relu": "relu",
    "relu_": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}
_JOINS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    "add": "add",
    "add_": "add",
    operator.mul: "mul",
    operator.imul: "mul",
    torch.mul: "mul",
    "mul": "mul",
    "mul_": "mul",
}
_IN_PLACE = {operator.iadd, operator.imul, "relu_", "add_", "mul_"}


def _from_function(node: fx.Node) -> Found | None:
    target, args, kwargs = node.target, node.args, dict(node.kwargs)
    if target in _JOINS and len(args) == 2 and not kwargs:
        return _join(_JOINS[target], args, in_place=target in _IN_PLACE)
    if target in (torch.cat, torch.concat):
        return _cat(args, kwargs)
    if not args or not isinstance(args[0], fx.Node):
        return None
    x = args[0]
    if target in (F.dropout, F.dropout2d) and not kwargs.get("training", True):
        return Found((x,))
    if target in (F.max_pool2d, torch.max_pool2d):
        return _pool_call(x, "max_pool", args[1:], kwargs)
    if target in (F.avg_pool2d, torch._C._nn.avg_pool2d):
        return _pool_call(x, "avg_pool", args[1:], kwargs)
    if target in _FUNCTIONS:
        in_place = bool(kwargs.pop("inplace", False)) or target in _IN_PLACE
        try:
            scalars = json_scalars([*args[1:], *kwargs.values()])
        except TypeError:
            return None
        if kwargs and list(kwargs) not in (["negative_slope"], ["alpha"]):
            return None
        return _pointwise(x, _FUNCTIONS[target], tuple(scalars), in_place=in_place)
    return None


def _join(kind: str, args: tuple[Any, ...], *, in_place: bool) -> Found | None:
    a, b = args
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return Found((a, b), kind, None, {}, in_place=in_place)
    if isinstance(b, fx.Node):
        a, b = b, a
    if isinstance(b, bool | int | float):
        return _pointwise(a, f"{kind}_scalar", (b,), in_place=in_place)
    return None


def _cat(args: tuple[Any, ...], kwargs: Record) -> Found | None:
    maps = kwargs.get("tensors", args[0] if args else ())
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
    if dim not in (1, -3) or not all(isinstance(n, fx.Node) for n in maps):
        return None
    return Found(tuple(maps), "cat", None, {})


_POOL_ARGUMENTS = {
    "max_pool": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool": (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    ),
}


def _pool_call(x: fx.Node, kind: str, args: tuple[Any, ...], kwargs: Record) -> Found | None:
    given = dict(zip(_POOL_ARGUMENTS[kind], args, strict=False)) | kwargs
    if given.pop("return_indices", False) or any(isinstance(v, fx.Node) for v in given.values()):
        return None
    kernel, stride = given.pop("kernel_size"), given.pop("stride", None)
    padding, dilation = given.pop("padding", 0), given.pop("dilation", 1)
    options = {"ceil_mode": given.pop("ceil_mode", False)}
    if kind == "avg_pool":
        options["count_include_pad"] = given.pop("count_include_pad", True)
        options["divisor_override"] = given.pop("divisor_override", None)
    return None if given else _pool(x, kind, kernel, stride or None, padding, dilation, **options)


# --- gathering --------------------------------------------------------------------------------

_GATHERING_MODULES = (
    nn.Flatten,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
)
_GATHERING_FUNCTIONS = {
    torch.flatten,
    torch.mean,
    torch.amax,
    torch.reshape,
    F.adaptive_avg_pool2d,
    F.adaptive_max_pool2d,
    "flatten",
    "view",
    "reshape",
    "mean",
    "amax",
    "size",
}
_WINDOWED_MODULES = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample)
_WINDOWED_FUNCTIONS = {F.conv2d, F.max_pool2d, F.avg_pool2d, F.interpolate, torch.max_pool2d}


def is_gathering(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node needs every row of its map, as the start of a head does."""
    if module is not None:
        return isinstance(module, _GATHERING_MODULES)
    return node.target in _GATHERING_FUNCTIONS or getattr(node.target, "__name__", "") == "getattr"


def is_windowed(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node slides a window over a feature map, as no layer of a head may."""
    if module is not None:
        return isinstance(module, _WINDOWED_MODULES)
    return node.op == "call_function" and node.target in _WINDOWED_FUNCTIONS
