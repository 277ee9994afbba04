"""`python run.py VERB`: the command line without installing the console script."""

from kderm.cli import main

if __name__ == "__main__":
    main()
