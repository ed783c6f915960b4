"""The commands of the command line. Related commands share a module."""
