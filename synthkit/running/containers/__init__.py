"""Container images: built, found, converted."""
