"""Numbers of other programs, kept in files, and the scripts that make them."""
