"""What a member looks at: class-activation maps on every backend, and the picture of a run."""
