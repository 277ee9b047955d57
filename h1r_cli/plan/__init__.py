"""What a run comes to before it starts."""
