"""The command-line side of the harness: one module per command, loaded only when it is called."""
