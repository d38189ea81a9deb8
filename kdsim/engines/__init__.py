"""What plays a run: SimPy processes, compiled loops; and what runs many."""
