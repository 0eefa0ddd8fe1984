"""`python -m c3l`."""

from c3l.cli import main

if __name__ == "__main__":
    main()
