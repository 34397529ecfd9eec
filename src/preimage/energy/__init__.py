"""The energy and its parts."""
