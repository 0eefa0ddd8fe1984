"""Identity: every file and setting that changes a result changes its key and digest."""
