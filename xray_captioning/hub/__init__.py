"""Downloads of what others publish."""
