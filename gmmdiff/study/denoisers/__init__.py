"""Denoisers of the study to load and use: the module, its file, and its card."""
