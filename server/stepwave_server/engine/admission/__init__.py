"""Admission: which attempts may start, by the limits of the server. It knows no run."""
