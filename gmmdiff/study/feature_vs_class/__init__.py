"""Feature against class conditioning: claims F1 to F5."""
