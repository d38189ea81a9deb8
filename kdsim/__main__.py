"""``python -m kdsim`` is the command line."""

from kdsim.cli.group import main

main()
