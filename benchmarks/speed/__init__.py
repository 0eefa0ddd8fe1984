"""The speed of scoring: against scoring without packing, and with a growing number of samples."""
