"""The access lists of the document, for the tests that work under them."""

import re
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs" / "access-lists.md").read_text()

#: The rules of each user, as they stand in the document.
RULES = {
    words[1]: words[2:]
    for words in (block.split() for block in re.findall(r"^```text\n(user .*?)^```", DOCUMENT, re.M | re.S))
}
