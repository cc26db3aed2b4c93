"""Headless training: generation at scale, pretraining, fine-tuning (``python -m training --help``)."""
