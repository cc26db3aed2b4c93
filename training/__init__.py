"""Headless generation at scale, pretraining, fine-tuning and benchmarks (``python -m training``)."""
