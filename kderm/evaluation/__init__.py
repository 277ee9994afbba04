"""Evaluation from saved tables alone. Never imports Keras."""
