"""How the study runs, publishes, verifies and resumes."""
