"""How fast scoring is: against the ways without packing, and as the number of samples grows."""
