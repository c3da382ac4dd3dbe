"""The theory checks."""
