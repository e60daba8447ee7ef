"""Item vectors with side information, and new books by side information alone."""
