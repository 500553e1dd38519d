"""``python -m runner``."""

from .cli.main import main

main()
