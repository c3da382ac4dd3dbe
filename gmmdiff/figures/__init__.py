"""What the results look like."""
