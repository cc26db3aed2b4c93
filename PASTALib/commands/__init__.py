"""One file per command of ``pasta``; heavy imports happen inside the commands."""
