"""The machine at hand: its cores, shares of them, its fingerprint."""
