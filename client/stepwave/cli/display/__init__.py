"""What the command line shows: the live view, lines of text, tables."""
