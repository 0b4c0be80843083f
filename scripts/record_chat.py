"""Record what a model says to a conversation's lines, as a picture of a terminal.

python scripts/record_chat.py smol plait/shipped/smol/conversation.txt docs/smol/session.svg
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 84
SKIPPED = ("/new", "a new conversation")


def lines_of(model: str, script: Path) -> list[str]:
    """The lines that `plait chat` prints for a script."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "plait", "chat", model, "--script", str(script), "--out", folder]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return said.replace(f"{folder}{os.sep}", "").splitlines()


def picture_of(lines: list[str], command: str) -> str:
    """The lines as an SVG without fonts from elsewhere: a command, then questions in bold."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text(f"$ {command}", style="dim"))
        for line in lines:
            if line.removeprefix("> ") in SKIPPED:
                if line.startswith("> "):
                    console.print()
                continue
            console.print(Text(line, style="bold" if line.startswith("> ") else ""))
        svg = console.export_svg(title=command)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    model, script, target = sys.argv[1:]
    Path(target).write_text(picture_of(lines_of(model, Path(script)), "plait chat"), encoding="utf-8")


if __name__ == "__main__":
    main()
