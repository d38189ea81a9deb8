"""Files: text with positions, and every fault of a file at once."""
