"""kdsim: share the cores of an edge device between the receiver of logits and the training."""

from kdsim._version import __version__

__all__ = ["__version__"]
