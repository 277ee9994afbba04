"""Calibration: what a probability is worth, and how to make it worth what it says."""
