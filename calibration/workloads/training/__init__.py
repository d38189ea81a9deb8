"""Networks, training loops, checkpoints, teachers."""
