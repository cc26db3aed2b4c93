"""PASTA's networks and the reading of their checkpoints. Needs torch."""
