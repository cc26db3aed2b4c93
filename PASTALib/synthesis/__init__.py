"""PASTA-Gen: parametric synthetic lesions that are measured before they are believed."""
