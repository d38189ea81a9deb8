"""Results over seeds, and cost profiles."""
