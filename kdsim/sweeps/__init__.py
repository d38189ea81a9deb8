"""Sweeps: designs run into a resumable store, on workers or a cluster."""
