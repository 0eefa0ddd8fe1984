"""Bad input, generated from a seed: see `generate`."""
