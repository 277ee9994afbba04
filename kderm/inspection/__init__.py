"""Pages that show a data set before anything is trained: one HTML file, figures and tables."""
