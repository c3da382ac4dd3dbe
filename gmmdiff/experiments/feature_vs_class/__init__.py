"""Feature conditioning against class conditioning."""
