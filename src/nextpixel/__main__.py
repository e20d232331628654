"""`python -m nextpixel` is the command line."""

from nextpixel.cli import main

main()
