"""The measuring: lmms-eval on our backbones, and the made world of the pocket profile."""
