"""Which shapes a U-Net can have; known without ``diffusers``, which takes seconds to load."""

from __future__ import annotations

from collections.abc import Sequence

from gmmdiff.core.checks import require, whole

NORM_GROUPS = 8  # of channels, that a group normalisation takes together


def require_shape(size: int, widths: Sequence[int]) -> None:
    """Refuses images and channels that do not fit.

    Raises:
        ValueError: unless there are two ``widths`` or more, multiples of ``NORM_GROUPS``, and
            ``size`` can be halved between them.
    """
    widths = [whole("unet", "widths", width, 1) for width in widths]
    good = len(widths) >= 2 and not any(width % NORM_GROUPS for width in widths)
    require(good, "unet", "widths", f"two or more multiples of {NORM_GROUPS}", widths)
    smallest = 2 ** (len(widths) - 1)
    require(size % smallest == 0, "unet", "size", f"a multiple of {smallest}", size)
