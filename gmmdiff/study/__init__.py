"""What is asked, how it is computed, and how it is judged."""
