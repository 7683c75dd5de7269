"""What workflows do to the world: one file per noun."""
