"""The output of the command line: the live view, event lines, reports and tables."""
