"""The figures, one per module: what each draws, on the axes that it is given."""
