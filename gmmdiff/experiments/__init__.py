"""What is trained and measured, declared: run tables, nothing that judges or draws."""
