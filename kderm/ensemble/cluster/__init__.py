"""Prediction of any number of images on a Ray cluster, with memory that does not grow with them."""
