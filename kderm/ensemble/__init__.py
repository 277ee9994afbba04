"""Ensembles: the bundle, and predictions for any images. Knows nothing of training."""
