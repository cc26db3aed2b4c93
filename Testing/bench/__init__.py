"""Benchmarks: every figure the project claims, measured here and printed beside its target (python -m Testing.bench)."""
