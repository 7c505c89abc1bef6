"""The dashboards, in their order in the docs."""

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import fleet, flow, gpus, readers

BOARDS: list[Dashboard] = [one.BOARD.build() for one in (readers, flow, gpus, fleet)]


def as_json(board: Dashboard) -> str:
    return JSONEncoder(indent=1, sort_keys=True, ensure_ascii=False).encode(board) + "\n"
