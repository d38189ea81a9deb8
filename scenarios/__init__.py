"""Scenario files that ship with kdsim, importable as data."""
