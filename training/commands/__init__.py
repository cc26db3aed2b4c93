"""One module per command of ``python -m training``; each imports its heavy parts when it runs."""
