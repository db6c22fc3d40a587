"""``python -m aiomos``: the command line."""

from aiomos.cli import main

main(prog_name="aiomos")
