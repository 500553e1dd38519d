"""``python -m tests.faults``: the soak."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from soak import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
