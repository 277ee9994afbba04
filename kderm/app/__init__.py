"""The page of `serve`: photos in, answers with a map, and what the ensemble is. Stores nothing."""
