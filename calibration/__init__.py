"""The torch harness: measure a device, fit its curves, run the real workloads."""
