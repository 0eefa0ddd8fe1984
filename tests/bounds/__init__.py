"""Bounds: the lowest and the newest versions that are declared really run."""
