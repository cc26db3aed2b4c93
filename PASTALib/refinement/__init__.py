"""Diffusion refinement: a few reverse steps of a denoising network, in the lesion's neighbourhood only."""
