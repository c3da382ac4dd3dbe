"""Gaussian mixture conditioning and negative Gaussian mixture gradients for diffusion models.

A reproduction of arXiv 2401.11261 on data whose geometry is known exactly.  The formulas that the
paper's abstracts leave open are our reconstruction; each module says which.
"""

__version__ = "0.1.0"
