"""Where the tasks of a sweep run: in this process, in worker processes, on a cluster."""
