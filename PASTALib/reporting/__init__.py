"""Documents for people: preview pictures and the gallery page."""
