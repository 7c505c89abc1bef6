"""``make dashboards``: write the dashboards' JSON into the chart."""

from pathlib import Path

from dashboards.boards import BOARDS, as_json

FOLDER = Path(__file__).parents[1] / "charts/lore/dashboards"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(as_json(board))
