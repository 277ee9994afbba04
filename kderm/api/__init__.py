"""What `run.py` does, for Python: data in, tables and answers out. `kderm` itself names it all."""
