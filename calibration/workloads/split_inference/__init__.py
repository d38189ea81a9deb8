"""Split inference: one network's feature maps over several workers, exact and faster.

The way through: :func:`trace` reads a network into a :class:`Graph`, :func:`plan` divides its
rows among parts, :class:`SplitModel` runs the plan on worker processes. ``cost`` predicts how
fast a plan is and chooses among plans; ``pipeline`` splits layers over a stream of images.

Source: the AFLKD paper, section 5 (Algorithm 3) and section 6.4.
"""

from calibration.workloads.split_inference.errors import PlanError, WorkerError
from calibration.workloads.split_inference.planning.graph import Graph, trace
from calibration.workloads.split_inference.planning.planner import Message, Plan, blocks, plan
from calibration.workloads.split_inference.runtime import SplitModel
from calibration.workloads.split_inference.workers.in_process import run_in_process
from calibration.workloads.split_inference.workers.pool import WorkerPool
from calibration.workloads.split_inference.workers.worker_process import WorkerSpec

__all__ = [
    "Graph",
    "Message",
    "Plan",
    "PlanError",
    "SplitModel",
    "WorkerError",
    "WorkerPool",
    "WorkerSpec",
    "blocks",
    "plan",
    "run_in_process",
    "trace",
]
