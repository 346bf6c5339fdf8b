"""What is launched: the spec and its files."""
