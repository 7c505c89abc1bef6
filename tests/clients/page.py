"""Write into docs/clients.md what went over the wire, and the minimal client: ``make readme``."""

import asyncio
import re
from pathlib import Path

from tests.clients.transcript import transcript

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
CLIENT = ROOT / "examples" / "minimal_client.py"
MADE = re.compile(
    r"(<!-- (\w+), made by: make readme -->\n).*?(<!-- made until here -->)", re.DOTALL
)


def rendered(text: str) -> str:
    """The page with what is made in it."""
    scenes = asyncio.run(transcript())
    parts = {
        "transcript": "\n\n".join(
            "\n".join([f"*{title}.*", "", "```", *lines, "```"]) for title, lines in scenes
        ),
        "client": f"```python\n{CLIENT.read_text().rstrip()}\n```",
    }
    return MADE.sub(lambda found: f"{found[1]}{parts[found[2]]}\n{found[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
