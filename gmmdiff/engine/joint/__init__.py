"""The denoiser trained with a classifier."""
