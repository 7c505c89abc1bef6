"""``make monitor``: ``lore up`` with a Prometheus that scrapes it, and a Grafana where installed.

Takes the arguments of ``lore up``: ``make monitor ARGS="--engine synthetic"``.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from dashboards import grafana_server, rules
from dashboards.prometheus import NoProgram, Prometheus, Target, program
from lore.cli.child import Child, Died
from lore.cli.fleet import free_ports
from lore.cli.place import Place
from lore_client.place import Running, default_data_dir

SCRAPE_S = 2.0
LOOK_EVERY_S = 0.2
STOP_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make monitor", add_help=False)
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("LORE_DATA_DIR", default_data_dir())
    )
    options, _ = parser.parse_known_args()
    try:
        program("prometheus")
        sys.exit(asyncio.run(monitor(sys.argv[1:], Place(options.data_dir))))
    except NoProgram as error:
        sys.exit(f"make monitor: {error}")


async def monitor(words: list[str], place: Place) -> int:
    """Run until ``lore up`` ends, and return its exit status."""
    (port,) = free_ports(1)
    began_s = time.time()
    up = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("lore")), "up", *words),
        env={**os.environ, "LORE_PROMETHEUS_URL": f"http://127.0.0.1:{port}"},
    )
    ending = asyncio.create_task(up.wait())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal signals lore up as well
    loop.add_signal_handler(signal.SIGTERM, up.terminate)
    watching: list[Child] = []
    try:
        running = await _ready(place, began_s, ending)
        if running is not None:
            await _watch(running, place.path / "monitor", port, watching)
        return await ending
    except Died as death:
        up.terminate()
        await ending
        print(f"make monitor: {death}", file=sys.stderr)
        return 1
    finally:
        for child in watching:
            await child.stop(STOP_S)


async def _ready(place: Place, began_s: float, ending: asyncio.Task[int]) -> Running | None:
    """What ``lore up`` announced; None if it ended before."""
    while not ending.done():
        if place.announced_at_s() >= began_s:
            return place.running()
        await asyncio.sleep(LOOK_EVERY_S)
    return None


async def _watch(running: Running, folder: Path, port: int, watching: list[Child]) -> None:
    """Raises Died."""
    targets = [Target(name, at) for name, at in running.health_ports.items()]
    # lore up sweeps by itself: there is no operator to scrape.
    alerts = {"groups": rules.groups(operator=False)}
    prometheus = Prometheus(
        folder / "prometheus", targets, interval_s=SCRAPE_S, rules=alerts, port=port
    )
    watching.append(prometheus)
    lines = [f"  Status  {running.edges[0]}/status", f"  Queries {prometheus.url}"]
    if (command := grafana_server.command()) is not None:
        grafana = grafana_server.Grafana(command, folder / "grafana", prometheus.url)
        watching.append(grafana)
        lines.append(f"  Grafana {grafana.url}/dashboards")
    for child in watching:
        await child.start()
        await child.until_ready()
    print("\nPrometheus scrapes it:\n", *lines, sep="\n", flush=True)


if __name__ == "__main__":
    main()
