"""The report: pages, pictures, cards and tables from saved predictions."""
