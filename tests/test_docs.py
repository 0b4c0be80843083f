"""The tutorial runs, in both languages, as a reader would paste it; the experiments are in order; references exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXPERIMENTS = sorted((DOCS / "experiments").glob("[!R]*.md"))
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


def test_the_index_of_experiments_names_every_page():
    index = (DOCS / "experiments" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(.+?)\]\(\1\) \| \S.*\|$", index, re.MULTILINE)
    assert sorted(listed) == [path.name for path in EXPERIMENTS]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_dated_newest_first_and_begin_with_what_was_found(path):
    text = path.read_text(encoding="utf-8")
    title, finding = text.split("\n\n", 2)[:2]
    assert title.startswith("# ")
    assert not finding.startswith("#"), "what was found stands before the entries"
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    dates = [re.match(r"(\d{4}-\d\d-\d\d) \S", heading) for heading in headings]
    assert dates
    assert all(dates), headings
    days = [date.group(1) for date in dates if date]
    assert days == sorted(days, reverse=True)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_links_of_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_pages_that_are_referred_to_exist():
    """Paths below docs/ in code, comments and pages; of a numbered decision or a seed's report the beginning is enough."""
    files = [path for folder in ("plait", "benchmarks", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")]
    files += [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    ours = [line for line in lines if "github.com/" not in line]  # not a page of another project
    named = {name for line in ours for name in re.findall(r"(?<![\w/.])docs/[\w/.-]*\w", line)}
    assert "docs/experiments/README.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists() and not [*ROOT.glob(f"{name}-*")]] == []
