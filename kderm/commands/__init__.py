"""What each verb of the command line does: call the rooms in order and tell what came of it."""
