"""The commands, one subject per module; each is imported when it is called."""
