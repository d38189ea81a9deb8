"""kdsim: who gets the cores, the receiver of the logits or the training?"""

from kdsim._version import __version__

__all__ = ["__version__"]
