"""The tutorial runs, in both languages, as a reader would paste it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("how-it-works.md", "how-it-works.zh-CN.md")


def snippets(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_tutorial_runs(page):
    session: dict[str, object] = {}
    for number, code in enumerate(snippets(page), start=1):
        exec(compile(code, f"{page}, snippet {number}", "exec"), session)
    assert "drawn" in session


def test_both_languages_have_the_same_code():
    """Comments are translated; the code is the same."""
    code = [[re.sub(r"\s*#.*", "", snippet) for snippet in snippets(page)] for page in PAGES]
    assert code[0] == code[1]


def test_what_the_data_page_names_exists():
    from plait.data.importers import names

    page = (DOCS / "your-data.md").read_text(encoding="utf-8")
    words = {
        "captions": "captions",
        "folders": "by class",
        "chat": "chats",
        "voc": "Pascal VOC",
        "common_voice": "Common Voice",
    }
    for name in names():
        assert words.get(name, name).casefold() in page.casefold(), f"the page does not name the importer {name}"
