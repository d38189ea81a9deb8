"""Device traces that ship with kdsim, each with the fingerprint of its host."""
