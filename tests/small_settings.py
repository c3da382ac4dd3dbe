"""The world of the experiments' tests."""

from functools import partial

from gmmdiff.worlds.arcs import Arcs

ARCS = partial(Arcs, 8)
