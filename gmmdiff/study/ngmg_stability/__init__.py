"""NGMG as a classifier's cost: claims N1 to N6."""
