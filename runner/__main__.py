"""``python -m runner``: as the command ``runner``, which does not look for modules in the working directory either."""

import os
import sys

from .cli.main import main

if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]
main()
