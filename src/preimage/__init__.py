"""Natural pre-images of any representation."""
