"""Run table -> trained runs -> tidy results."""
