"""Find out why KD with all layers frozen goes backwards, and choose a step at which it does not.

    python -m benchmarks.aflkd_study.steps --data-dir DIR --work out/aflkd

No test image is looked at. Edge-1 is trained on the 500 Fashion-MNIST images of a seed that no
study has, under several methods and steps; recorded are the loss and the accuracy on those images
after each epoch, the share of the head's hidden units that are zero for every image at the end,
and the curvature (largest eigenvalue of the loss's Hessian in the head's weights) at the start.
The study ``slow-fashion-mnist`` takes the step at which the method that fits its own images worst
fits them best. Finished runs are kept in ``WORK/steps.jsonl``; teacher 0 of
``small-fashion-mnist`` is trained, or taken from WORK.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from calibration.workloads.aflkd.freezing import share_layers, trainable_tail
from calibration.workloads.aflkd.incremental import Lesson, make_lessons
from calibration.workloads.aflkd.student import train_student
from calibration.workloads.aflkd.study import draw_split, prepare
from calibration.workloads.data.datasets import Dataset, load
from calibration.workloads.losses import distillation_loss
from calibration.workloads.records.results import RunLedger, manifest, write_json
from calibration.workloads.training.networks import ConvNet, build_network, layer_count
from calibration.workloads.training.seeds import derive_seed

from .report import RESULTS
from .studies import STUDIES

#: No study has this many seeds, so that this one is new to all of them.
SEED = 1000

#: (method, learning rate, momentum): the rates that are chosen from, then what explains them.
TRIALS: tuple[tuple[str, float, float], ...] = (
    *(
        (method, rate, 0.9)
        for rate in (0.01, 0.005, 0.003, 0.001)
        for method in ("sslf", "kd-frozen", "aflkd-reverse", "baseline")
    ),
    ("kd", 0.01, 0.9),
    ("sslf", 0.02, 0.9),
    ("kd-frozen-t1", 0.01, 0.9),
    ("kd-frozen", 0.01, 0.0),
)


def main() -> None:
    """Do the trials that are missing, then write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--work", type=Path, default=Path("out/aflkd"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = STUDIES["small-fashion-mnist"]
    dataset = load(config.data, arguments.data_dir, download=False)
    folder = arguments.work / "small-fashion-mnist"
    taught = prepare(config, dataset, folder, 0, torch.device("cpu"))
    lesson = lesson_of(dataset, taught.teacher)
    ledger = RunLedger(arguments.work / "steps.jsonl")
    for method, rate, momentum in TRIALS:
        label = f"{method}/{rate:g}/{momentum:g}"
        if label not in ledger:
            ledger.add(label, trial(taught.teacher, lesson, method, rate, momentum))
            print(label, flush=True)
    curvature = {
        "cross-entropy": curvature_at_start(taught.teacher, lesson, None),
        "with KL at T = 4": curvature_at_start(taught.teacher, lesson, 4.0),
    }
    notes = [f"edge-1, seed {SEED}, {len(lesson.images)} images; no test image is looked at"]
    content = {
        "manifest": manifest({"trials": TRIALS}, seeds=[SEED], dataset=dataset, notes=notes),
        "curvature": curvature,
        "trials": [ledger.runs[f"{m}/{r:g}/{v:g}"] for m, r, v in TRIALS],
    }
    write_json(arguments.out / "steps.json", content)


def lesson_of(dataset: Dataset, teacher: ConvNet) -> Lesson:
    """Return the first training set of the seed."""
    config = STUDIES["small-fashion-mnist"]
    split = draw_split(config, dataset, SEED)
    return make_lessons(dataset, split, teacher, config.lessons(distil=True), seed=SEED)[0]


def trial(
    teacher: ConvNet, lesson: Lesson, method: str, rate: float, momentum: float
) -> dict[str, Any]:
    """Train one student and say how it went, on its own images."""
    base = STUDIES["small-fashion-mnist"].student
    training = replace(base.training, learning_rate=rate, momentum=momentum)
    config = replace(base, method=method, training=training)
    own = (lesson.images[:32], lesson.labels[:32])  # an accuracy that is not read
    run = train_student("edge-1", teacher, [lesson], own, config, seed=SEED)
    return {
        "method": method,
        "learning_rate": rate,
        "momentum": momentum,
        "loss": [epoch.loss for epoch in run.epochs],
        "train_accuracy": [epoch.train_accuracy for epoch in run.epochs],
        "silent_units": silent_units(run.network, lesson.images),
    }


def silent_units(network: ConvNet, images: Tensor) -> float:
    """Return the share of the head's hidden units that are zero for every image."""
    network.eval()
    hidden = network.head[:3]  # Flatten, Linear, ReLU
    with torch.no_grad():
        zero = [(hidden(network.features(part)) == 0).all(dim=0) for part in images.split(100)]
    return float(torch.stack(zero).all(dim=0).float().mean())


def curvature_at_start(teacher: ConvNet, lesson: Lesson, temperature: float | None) -> float:
    """Return the largest eigenvalue of the loss's Hessian with every layer frozen, untrained."""
    seed = derive_seed(SEED, "student")
    network = build_network("edge-1", teacher.input_shape, teacher.classes, seed=seed)
    layers = layer_count(network)
    share_layers(teacher, network, range(layers))
    network.eval()
    with torch.no_grad():
        features = network.features(lesson.images[:250])
    tail = trainable_tail(network, layers)
    weights = list(tail.parameters())
    logits = tail(features)
    loss = functional.cross_entropy(logits, lesson.labels[:250])
    if temperature is not None:
        answers = lesson.teacher_logits[:250]
        loss = loss + distillation_loss(logits, answers, "kl", temperature=temperature)
    return largest_curvature(loss, weights)


def largest_curvature(loss: Tensor, weights: Sequence[Tensor], *, iterations: int = 12) -> float:
    """Return the largest eigenvalue, by size, of a loss's Hessian, by power iteration."""
    slopes = torch.autograd.grad(loss, weights, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(w.shape, generator=generator) for w in weights]
    value = 0.0
    for _ in range(iterations):
        length = torch.sqrt(torch.stack([(v * v).sum() for v in vector]).sum())
        vector = [v / length for v in vector]
        product = torch.stack([(s * v).sum() for s, v in zip(slopes, vector, strict=True)]).sum()
        after = torch.autograd.grad(product, weights, retain_graph=True)
        value = float(sum((a * v).sum() for a, v in zip(after, vector, strict=True)))
        vector = list(after)
    return value


if __name__ == "__main__":
    main()
