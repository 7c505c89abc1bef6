"""What every service's metrics say of its logs."""

import os

from lore.metrics import LOG_LINES_LOST
from lore.stderr import Stderr
from tests.services.meters import grows


@grows("lore_log_lines_lost_total", by=1)
async def test_a_line_for_which_the_disk_has_no_room_is_lost() -> None:
    stderr = Stderr(os.open("/dev/full", os.O_WRONLY))  # for good: its thread tries again
    stderr.on_lost = LOG_LINES_LOST.inc
    stderr.write("a line\n")
    stderr.drain(60)
