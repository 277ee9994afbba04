"""Runs against each other on the same images: what differs, and how sure that is."""
