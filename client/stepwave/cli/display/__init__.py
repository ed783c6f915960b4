"""What the command line shows: the live view, event lines, reports and tables."""
