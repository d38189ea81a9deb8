"""A network as layers, a plan of its rows, and the program of each part."""
