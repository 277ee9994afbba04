"""Networks: where a backbone comes from, its head, losses, fast layers, forward passes."""
