"""Ray: connecting to a cluster, what of it each task asks for, and what tasks say on their way."""
