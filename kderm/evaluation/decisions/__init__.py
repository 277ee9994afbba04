"""Decisions: the thresholds that turn a probability into an act, and what they are worth."""
