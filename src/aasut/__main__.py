"""`python -m aasut` is `aasut`."""

from aasut.cli import main

main()
