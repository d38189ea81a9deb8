"""The cloud of edge KD: a trained teacher whose knowledge of the public images is served."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.link.frames import Knowledge, matrix_payload
from calibration.link.server import Select, Source
from calibration.workloads.data.datasets import load
from calibration.workloads.edge_kd.config import (
    EdgeConfig,
    check_methods,
    count_pools,
    parts_of,
    public_rows,
    spec_of,
    teacher_map,
)
from calibration.workloads.training.checkpoints import differences
from calibration.workloads.training.loops import TrainingConfig, accuracy, predict
from calibration.workloads.training.networks import ConvNet, build_network
from calibration.workloads.training.teacher import train_teacher
from kdsim._types import Record
from kdsim.errors import WorkloadError


def prepare_teacher(config: EdgeConfig, folder: Path) -> ConvNet:
    """Train the teacher, or load what is there; the teacher process does the same and finds it.

    Parameters
    ----------
    folder : path
        Holds the checkpoint.

    Returns
    -------
    ConvNet
        In eval mode.
    """
    dataset = load(config.data, config.data_dir)
    training = TrainingConfig(epochs=config.teacher_epochs, batch_size=32)
    parts = parts_of(config, dataset, seed=0)
    return train_teacher(dataset, parts.teacher, training, checkpoint=folder / "teacher.pt")


def build_source(spec: Record) -> tuple[Source, Record]:
    """Set the cloud up (called in the teacher's process).

    Parameters
    ----------
    spec : dict
        ``config``, ``folder``, ``seed``, ``method``.

    Returns
    -------
    (Source, dict)
        Chunk 0 of batch i is the knowledge of cycle i's public images.
    """
    torch.set_num_threads(1)
    config, method, seed = EdgeConfig(**spec["config"]), spec["method"], spec["seed"]
    teacher = prepare_teacher(config, Path(spec["folder"]))
    dataset = load(config.data, config.data_dir)
    images = dataset.images("train", parts_of(config, dataset, seed).stream)
    known = _knowledge(teacher, images, method, config.student)  # (public, columns)

    def source(kind: int, batch: int, chunk: int) -> tuple[bytes | memoryview, int | None] | None:
        if kind != Knowledge.RESPONSE or chunk != 0 or batch >= config.cycles:
            return None
        payload = matrix_payload(known[public_rows(config, seed, batch)])
        return payload, zlib.crc32(payload)

    greeting = {"columns": known.shape[1], "chunk_rows": config.batch, "knowledge": method}
    return source, greeting


#: What the teacher's answers depend on; all else is the edge's own business.
_SERVED = (
    "data", "student", "teacher_images", "private_images", "public_images", "teacher_epochs",
    "epochs", "batch",
)  # fmt: skip


def make_study_request(config: EdgeConfig, method: str, seed: int, data_sha256: str) -> Record:
    """Return what an edge asks of a remote teacher: JSON values, checked by its `serve_study`.

    Parameters
    ----------
    data_sha256 : str
        Digest of the edge's data set: both sides must mean the same images.
    """
    study = {name: getattr(config, name) for name in _SERVED}
    return {"edge-kd": {**study, "data_sha256": data_sha256}, "method": method, "seed": seed}


def serve_study(config: EdgeConfig, folder: Path) -> Select:
    """Train the teacher, or load it, and serve every method and seed of a study.

    Parameters
    ----------
    config : EdgeConfig
        The edge must be run with the same data, student, images, epochs and batch.
    folder : path
        Holds the teacher's checkpoint.

    Returns
    -------
    Select
        For a ``KnowledgeServer``. Greetings also report the teacher's test accuracy; an edge of
        another study is refused, and the message names the first difference.
    """
    dataset = load(config.data, config.data_dir)
    teacher = prepare_teacher(config, folder)
    test = accuracy(predict(teacher, dataset.images("test")), dataset.labels("test"))
    lock = threading.Lock()
    built: dict[tuple[str, int], tuple[Source, Record]] = {}

    def select(study_request: Record) -> tuple[Source, Record]:
        method: Any = study_request.get("method")  # of whatever JSON type: checked below
        seed, study = study_request.get("seed"), study_request.get("edge-kd")
        if not (isinstance(study, dict) and isinstance(seed, int) and seed >= 0):
            raise WorkloadError("it serves edge-KD studies; what is asked for is none")
        check_methods([method])
        ours = make_study_request(config, method, seed, dataset.digest)["edge-kd"]
        for key, served, asked in differences(ours, study):
            raise WorkloadError(
                f"its {key} is {served!r}, the edge's {asked!r}; start both with the same options"
            )
        with lock:  # several streams of one run connect at once
            if (method, seed) not in built:
                built.clear()  # an edge asks for one run after the other
                source, greeting = build_source(spec_of(config, method, seed, folder))
                built[method, seed] = source, {**greeting, "accuracy": test}
            return built[method, seed]

    return select


def _knowledge(teacher: ConvNet, images: Tensor, method: str, student: str) -> np.ndarray:
    """Infer on all public images once: (public, columns) float32."""
    with torch.no_grad():
        if method == "feature":
            shape = teacher.input_shape
            pools = count_pools(build_network(student, shape, teacher.classes))
            maps = [teacher_map(teacher, part, pools) for part in images.split(256)]
            return torch.cat(maps).flatten(1).numpy()
        if method == "relation":
            maps = [teacher.features(part) for part in images.split(256)]
            return torch.cat(maps).mean(dim=(2, 3)).numpy()
        return predict(teacher, images).numpy()
