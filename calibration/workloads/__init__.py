"""The real workloads: each gives its own scientific result and the cost profile a scenario reads."""
