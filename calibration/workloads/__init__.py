"""The real workloads: each gives its own result and the cost profile that a scenario reads."""
