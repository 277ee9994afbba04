"""What a run is told: the options, and how they are read."""
