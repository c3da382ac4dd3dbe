"""Costs of a classifier: alone, and beside a denoiser."""
