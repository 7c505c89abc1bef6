"""A service that counts its event loop's function calls between two SIGUSR2.

``python -m loadtest.harness.counted lore_edge.main`` runs that service. ``BENCH_CALLS`` names the
folder; the second signal writes ``<pid>`` there, JSON: a list of [file, line, function, calls].
A builtin has the file "". A coroutine counts each time it is resumed.
"""

import cProfile
import importlib
import json
import os
import signal
import sys
from pathlib import Path

_profile = cProfile.Profile()
_is_counting = False


def _toggle(*_: object) -> None:
    global _is_counting
    _is_counting = not _is_counting
    if _is_counting:
        _profile.enable()
        return
    _profile.disable()
    path = Path(os.environ["BENCH_CALLS"]) / str(os.getpid())
    part = path.with_suffix(".part")
    part.write_text(json.dumps([_row(entry) for entry in _profile.getstats()]))
    part.rename(path)


def _row(entry: object) -> list[object]:
    code, calls = entry.code, entry.callcount  # type: ignore[attr-defined]
    if isinstance(code, str):
        return ["", 0, code, calls]
    return [code.co_filename, code.co_firstlineno, code.co_qualname, calls]


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _toggle)
    importlib.import_module(sys.argv[1]).main()
