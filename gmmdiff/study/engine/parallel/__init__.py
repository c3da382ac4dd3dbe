"""Independent jobs side by side: on threads, or on many machines."""
