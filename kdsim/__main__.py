"""``python -m kdsim`` is the command line."""

from kdsim.cli import main

main()
