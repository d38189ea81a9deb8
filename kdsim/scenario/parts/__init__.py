"""The parts of a scenario: device, curves, workload, link, extensions."""
