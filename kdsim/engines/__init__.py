"""The two engines (SimPy processes, compiled loops) and the functions that run them."""
