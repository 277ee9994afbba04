"""Folds side by side: shares of the machine, a process a fold, and what that process does."""
