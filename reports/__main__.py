"""Scores in, one page out: `python -m reports`."""

from reports.cli import main

main()
