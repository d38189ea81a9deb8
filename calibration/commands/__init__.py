"""The command-line side of the harness: one module a command, loaded only when it is called."""
