"""Data: tables, folds, pixels. Sees Keras only where batches meet the device (`warp`)."""
