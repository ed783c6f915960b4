"""The demo: starts the flaky service, and runs the trip against it; `python client/examples/flaky_tools/trip.py`.

It works from any folder and uses no network beyond this machine.
"""

import os
import subprocess
import sys
from pathlib import Path

from flaky_service import flaky_service

HERE = Path(__file__).parent
STEPWAVE = str(Path(sys.executable).with_name("stepwave"))


def main() -> int:
    with flaky_service() as service:
        command = ["run", "trip.yaml", "--actions", "quotes", "--input", '{"city": "Oslo"}']
        print("$ stepwave", *command, file=sys.stderr, flush=True)
        environment = {**os.environ, "TRAVEL_SERVICE": service.address}
        done = subprocess.run([STEPWAVE, *command], cwd=HERE, env=environment, check=False)  # noqa: S603 - ours
        print(f"the service: {service.report()}", file=sys.stderr)
        return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
