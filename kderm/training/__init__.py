"""Training: one fold, and all of them. Writes fold folders; knows nothing of ensembles."""
