"""Pre-training the pocket backbones: `python -m benchmarks.pocket.pretrain --help`."""
