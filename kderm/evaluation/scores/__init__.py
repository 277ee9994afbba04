"""Scores from weighted counts and weighted ranks; `kderm.evaluation.metrics` puts them together."""
