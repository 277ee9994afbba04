"""Ways to run the members of a bundle, with the same answers."""
