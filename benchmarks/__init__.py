"""Measures the service against the database below it, and how well its searches find."""
