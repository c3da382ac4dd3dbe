"""A run table in, trained and measured runs out."""
