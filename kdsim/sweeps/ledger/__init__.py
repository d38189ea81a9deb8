"""The ledger of a sweep: a SQLite file, what is written to it, read from it, exported."""
