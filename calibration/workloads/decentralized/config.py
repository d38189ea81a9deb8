"""What a dissimilarity study consists of: its settings, presets by data set, and its runs.

What is *not* here: doing the runs (``dissimilarity``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from calibration.workloads.data.datasets import Dataset
from calibration.workloads.decentralized.run import Plan
from calibration.workloads.losses import MEASURES, Case, Scale
from calibration.workloads.training.weights import StartingWeights
from kdsim.errors import WorkloadError

SPLITS: tuple[str, ...] = ("iid", "skew")
CASES: tuple[str, ...] = ("sum", "average")


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes that suit a data set: a run takes seconds on one core for the first two.

    Attributes
    ----------
    private, public, test : int
        Labelled samples over all clients, unlabelled public samples, test samples.
    rounds : int
        Exchanges, each with one SGD step a client.
    learning_rate : float
        Chosen on training images that no client holds, never on test images.
    """

    private: int
    public: int
    test: int
    rounds: int
    learning_rate: float


PRESETS: dict[str, Preset] = {
    "digits": Preset(800, 400, 497, 100, 0.05),
    "fashion-mnist": Preset(3000, 2000, 2000, 160, 0.03),
    "cifar10": Preset(9000, 3000, 5000, 600, 0.03),
    "cifar10-jpeg": Preset(9000, 3000, 5000, 600, 0.03),
    "cifar100": Preset(15000, 5000, 5000, 1000, 0.03),
}


def preset_for(dataset: Dataset) -> Preset:
    """Return the preset of a data set, or for one's own images: all of them, in CIFAR-10's run."""
    if dataset.name in PRESETS:
        return PRESETS[dataset.name]
    labelled = 3 * len(dataset.train_labels) // 4
    public = len(dataset.train_labels) - labelled
    return replace(
        PRESETS["cifar10"], private=labelled, public=public, test=len(dataset.test_labels)
    )


#: Measure and case of a run with alpha = 1.
NOT_EXCHANGING: Final = "none"


@dataclass(frozen=True, slots=True)
class Study:
    """A grid of decentralised runs.

    Attributes
    ----------
    clients : int
        Number of clients.
    measures, cases, alphas, splits, seeds : tuple
        The grid; see :class:`calibration.workloads.decentralized.run.Plan`.
    gamma : float
        Skewness of the split ``"skew"``.
    primary_per_client : int, optional
        Primary labels per client; by default each label is primary for one client.
    sizes : tuple of float, optional
        Relative data sizes of the clients; equal by default.
    private_samples, public_samples, test_samples : int
        Labelled samples over all clients, unlabelled public samples, test samples used.
    rounds, batch, learning_rate, temperature, scale, distil_on, averaging, graph, network,
    common_start, weights, augment, refresh_every, pool_size, departures
        As in the plan of each run.
    """

    clients: int = 3
    measures: tuple[str, ...] = MEASURES
    cases: tuple[Case, ...] = ("average",)
    alphas: tuple[float, ...] = (0.5, 1.0)
    splits: tuple[str, ...] = SPLITS
    seeds: tuple[int, ...] = (0, 1, 2)
    gamma: float = 15.0
    primary_per_client: int | None = None
    sizes: tuple[float, ...] | None = None
    private_samples: int = 800
    public_samples: int = 400
    test_samples: int = 497
    rounds: int = 100
    batch: int = 32
    learning_rate: float = 0.05
    temperature: float = 1.0
    scale: Scale = "none"
    distil_on: Literal["public", "private"] = "public"
    averaging: Literal["probabilities", "logits"] = "probabilities"
    graph: str = "complete"
    network: str = "small-cnn"
    common_start: bool = False
    weights: StartingWeights | None = None
    augment: bool = False
    refresh_every: int = 0
    pool_size: int = 4
    departures: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        grid = {
            "measures": (self.measures, MEASURES),
            "cases": (self.cases, CASES),
            "splits": (self.splits, SPLITS),
        }
        for name, (chosen, known) in grid.items():
            wrong = [value for value in chosen if value not in known]
            if wrong or not chosen:
                got = repr(wrong[0]) if wrong else "none"
                raise WorkloadError(f"{name} must be among {', '.join(known)}; got {got}")
        for name in ("measures", "cases", "splits", "alphas", "seeds"):
            chosen = getattr(self, name)
            if not chosen or len(set(chosen)) != len(chosen):
                raise WorkloadError(f"{name} must be one or more different values, got {chosen}")
        if self.clients < 2:
            raise WorkloadError(f"clients must be 2 or more to exchange, got {self.clients}")
        if self.sizes is not None and len(self.sizes) != self.clients:
            raise WorkloadError(
                f"sizes must be one number for each of the {self.clients} clients, "
                f"got {len(self.sizes)}"
            )
        for client, turn in self.departures:
            if not (0 <= client < self.clients and 0 <= turn < self.rounds):
                raise WorkloadError(
                    f"a departure names a client of 0 to {self.clients - 1} and a round of 0 to "
                    f"{self.rounds - 1}, got {client}@{turn}"
                )
        for alpha in self.alphas:
            if not 0 <= alpha <= 1:
                raise WorkloadError(f"alpha must lie in [0, 1], got {alpha!r}")


@dataclass(frozen=True, slots=True)
class Unit:
    """One run of a study."""

    split: str
    case: Case | Literal["none"]
    measure: str
    alpha: float
    seed: int

    @property
    def name(self) -> str:
        """Its key in the ledger."""
        return f"{self.split}/{self.case}/{self.measure}/alpha={self.alpha:g}/seed={self.seed}"


def units(study: Study) -> list[Unit]:
    """List a study's runs, seed by seed, so that an unfinished study has whole seeds."""
    return list(_units(study))


def _units(study: Study) -> Iterator[Unit]:
    for seed in study.seeds:
        for which in study.splits:
            if 1.0 in study.alphas:
                yield Unit(which, NOT_EXCHANGING, NOT_EXCHANGING, 1.0, seed)
            for alpha in study.alphas:
                if alpha == 1:
                    continue
                for case in study.cases:
                    for measure in study.measures:
                        yield Unit(which, case, measure, alpha, seed)


def plan_of(study: Study, unit: Unit) -> Plan:
    """Return the plan of one run."""
    own = {field.name for field in fields(Study)}
    return Plan(
        **{f.name: getattr(study, f.name) for f in fields(Plan) if f.name in own},
        measure=unit.measure if unit.measure != NOT_EXCHANGING else "kl",
        case=unit.case if unit.case != NOT_EXCHANGING else "average",
        alpha=unit.alpha,
        seed=unit.seed,
    )
