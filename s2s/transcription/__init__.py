"""Recordings of any length to text with times."""
