"""`python -m hasten.app`: the command line where the `hasten` script is not on the path."""

from hasten.app.cli import main

main()
