"""What one part does, step by step: compute rows, send rows, receive rows.

:func:`compile_part` turns a plan into the :class:`Program` of one part. Steps are grouped in
stages, one for each layer; within a stage every receive waits only for sends of earlier stages,
so no order of the parts can deadlock. Programs travel to the workers as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from calibration.workloads.split_inference.planning.layers import Layer, Rows, Shape
from calibration.workloads.split_inference.planning.planner import Message, Plan
from kdsim._types import Record, RecordView


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: ``compute`` rows of a layer, ``send`` or ``recv`` a message.

    Attributes
    ----------
    layer : int
        The layer computed, or the one for whose sake the message is received or sent.
    rows : Rows
        Output rows of the layer, or the rows that travel.
    message : int
        Number of the message in ``Program.messages``; -1 for ``compute``.
    """

    action: str
    layer: int
    rows: Rows
    message: int = -1


@dataclass(frozen=True)
class Program:
    """Everything that one part needs to know, weights apart.

    Attributes
    ----------
    shapes : tuple of Shape
        Of the whole feature maps.
    messages : tuple of Message
        Of all parts; a message's number is its place here.
    stages : tuple of tuple of Step
        One for each layer.
    stored : tuple of Rows
        Rows of each feature map that this part holds at some time, padding rows included.
    input_rows : Rows
        What arrives from the master.
    sinks : tuple of (int, Rows)
        What goes back to the master.
    """

    part: int
    parts: int
    layers: tuple[Layer, ...]
    shapes: tuple[Shape, ...]
    messages: tuple[Message, ...]
    stages: tuple[tuple[Step, ...], ...]
    stored: tuple[Rows, ...]
    input_rows: Rows
    sinks: tuple[tuple[int, Rows], ...]

    @property
    def steps(self) -> list[Step]:
        """All steps in the order of execution."""
        return [step for stage in self.stages for step in stage]

    def to_json(self) -> Record:
        """Return the program as JSON values; :meth:`from_json` reads it back."""
        return {
            "part": self.part,
            "parts": self.parts,
            "layers": [layer.to_json() for layer in self.layers],
            "shapes": [list(s) for s in self.shapes],
            "messages": [[m.tensor, m.source, m.target, *m.rows, m.values] for m in self.messages],
            "stages": [
                [[s.action, s.layer, *s.rows, s.message] for s in stage] for stage in self.stages
            ],
            "stored": [list(r) for r in self.stored],
            "input_rows": list(self.input_rows),
            "sinks": [[t, *rows] for t, rows in self.sinks],
        }

    @classmethod
    def from_json(cls, data: RecordView) -> Program:
        """Read what :meth:`to_json` wrote."""
        return cls(
            part=data["part"],
            parts=data["parts"],
            layers=tuple(Layer.from_json(d) for d in data["layers"]),
            shapes=tuple(Shape(*s) for s in data["shapes"]),
            messages=tuple(
                Message(t, a, b, Rows(lo, hi), n) for t, a, b, lo, hi, n in data["messages"]
            ),
            stages=tuple(
                tuple(Step(action, i, Rows(lo, hi), m) for action, i, lo, hi, m in stage)
                for stage in data["stages"]
            ),
            stored=tuple(Rows(*r) for r in data["stored"]),
            input_rows=Rows(*data["input_rows"]),
            sinks=tuple((t, Rows(lo, hi)) for t, lo, hi in data["sinks"]),
        )


def compile_part(plan: Plan, part: int) -> Program:
    """Compile the steps of one part.

    Parameters
    ----------
    part : int
        0 to ``plan.parts - 1``.
    """
    graph = plan.graph
    return Program(
        part=part,
        parts=plan.parts,
        layers=graph.layers,
        shapes=graph.shapes,
        messages=plan.messages,
        stages=_stages(plan, part),
        stored=tuple(
            plan.needed[t][part].hull(plan.computed[t][part]) for t in range(len(graph.shapes))
        ),
        input_rows=plan.input_rows(part),
        sinks=tuple((t, plan.owned[t][part]) for t in graph.sinks),
    )


def without_exchange(program: Program) -> Program:
    """Return the program with no message at all: wrong at the borders, the bound in time.

    It shows how fast the split would be if rows travelled in no time at all.
    """
    stages = tuple(
        tuple(step for step in stage if step.action == "compute") for stage in program.stages
    )
    return replace(program, stages=stages, messages=())


def _stages(plan: Plan, part: int) -> tuple[tuple[Step, ...], ...]:
    stages: list[list[Step]] = [[] for _ in plan.graph.layers]
    tiled = {t: chain for t in plan.early if (chain := _chain(plan, t)) and _sent(plan, t, part)}
    moved = {i for chain in tiled.values() for i in chain}
    received: set[int] = set()
    for i, layer in enumerate(plan.graph.layers):
        for number, message in enumerate(plan.messages):
            wanted = message.target == part and message.tensor in layer.inputs
            if wanted and number not in received:
                received.add(number)
                stages[i].append(Step("recv", i, message.rows, number))
        sends = [
            Step("send", i, m.rows, number)
            for number, m in enumerate(plan.messages)
            if m.tensor == i + 1 and m.source == part
        ]
        if i + 1 in tiled:
            stages[i] += _border_first(plan, tiled[i + 1], plan.computed[i + 1][part], sends)
        elif i not in moved:
            rows = plan.computed[i + 1][part]
            stages[i] += [Step("compute", i, rows), *sends] if rows else []
    return tuple(map(tuple, stages))


def _sent(plan: Plan, tensor: int, part: int) -> bool:
    return any(m.tensor == tensor and m.source == part for m in plan.messages)


def _chain(plan: Plan, tensor: int) -> list[int]:
    """Return the layers that can run tile by tile up to feature map `tensor`, first to last.

    A chain starts at the layer with the window (the convolution) and continues through layers that
    map disjoint rows to disjoint rows and whose input nobody else reads.
    """
    graph, chain, t = plan.graph, [tensor - 1], tensor
    while True:
        layer = graph.layers[t - 1]
        (*more, source) = layer.inputs
        if layer.window is not None:
            overhangs = layer.needs(graph.shapes[t].rows).hi > graph.shapes[source].height
            if overhangs or not layer.window.is_local:
                return chain
        alone = not more and source != 0 and source not in graph.sinks
        travels = any(m.tensor == source for m in plan.messages)
        if not alone or travels or len(graph.consumers(source)) != 1:
            return chain
        chain.insert(0, source - 1)
        t = source


def _border_first(plan: Plan, chain: list[int], rows: Rows, sends: list[Step]) -> list[Step]:
    """Compute and send the rows that others wait for, then the rest."""
    steps: list[Step] = []
    rest = [rows]
    for send in sends:
        for piece in [p for left in rest for p in [left.within(send.rows)] if p]:
            steps += _tile(plan, chain, piece)
            rest = [r for left in rest for r in left.minus(piece)]
        steps.append(send)
    for piece in rest:
        steps += _tile(plan, chain, piece)
    return steps


def _tile(plan: Plan, chain: list[int], rows: Rows) -> list[Step]:
    steps: list[Step] = []
    for i in reversed(chain):
        steps.insert(0, Step("compute", i, rows))
        rows = plan.graph.layers[i].needs(rows)
    return steps
