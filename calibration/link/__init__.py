"""Knowledge over TCP: frames, a server for the teacher, streams for the edge."""
