"""Chain: each command is fed the real output of another, with something unscored in it."""
