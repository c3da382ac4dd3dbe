"""One notebook as one stage: parameters in, results out."""
