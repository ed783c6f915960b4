"""The clients, and the runs that they follow."""
