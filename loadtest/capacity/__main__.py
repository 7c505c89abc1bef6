"""``python -m loadtest.capacity`` prints the tables; with a file, it makes those in it anew."""

import sys
from pathlib import Path

from loadtest.capacity.page import TABLES, page

if len(sys.argv) > 1:
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text(encoding="utf-8")), encoding="utf-8")
else:
    for name, table in TABLES.items():
        print(f"{name}\n\n{table()}\n")
