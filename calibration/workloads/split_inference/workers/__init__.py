"""Worker processes: how they start, talk, run their part of a plan, and end."""
