"""Thousands of requests that schemathesis makes up from the OpenAPI document, good and bad: none may be answered with 5xx.

    pip install schemathesis        # in an environment of its own
    python benchmarks/serving_fuzz.py runs/demo --st PATH/TO/st --cases 200

`--cases` of each operation. Prints schemathesis' summary; its exit code is 1 if a server error was found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn

from plait import api
from plait.serve import create_app
from plait.serve.run import settings

PORT = 8312


def main() -> None:
    """Serve, ask and end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--st", default="st", help="schemathesis' command")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = create_app({"model": api.load(options.checkpoint)}, conversations=Path(folder) / "c.sqlite")
        server = uvicorn.Server(settings(app, host="127.0.0.1", port=PORT))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        done = subprocess.run(
            [
                options.st, "run", f"http://127.0.0.1:{PORT}/openapi.json", "--wait-for-schema", "60",
                "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--mode", "all",
                "--max-examples", str(options.cases), "--seed", str(options.seed), "--suppress-health-check", "all",
                "--continue-on-failure", "--request-timeout", "120", "--no-color",
            ],
            check=False,
        )  # fmt: skip
        server.should_exit = True
        thread.join(60)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
