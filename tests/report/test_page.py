"""The page: nothing in it but what was put there, in both languages."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from baiwen.report import figures, page
from baiwen.report.runs import Run
from baiwen.report.sections import sections

VOID = {"meta"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.open = set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def report(folders, hostile):
    runs = [Run(name, path) for name, path in folders.items()]
    return page.Page(hostile, sections(runs))


def read(report):
    reader = Reader()
    reader.feed(page.html(report))
    assert reader.open == []
    return reader


def shown(text):
    return re.sub("[\x00\x1b\x7f]", "\ufffd", text)


def test_hostile_text_is_shown_and_never_run(report, hostile):
    reader = read(report)
    assert "script" not in reader.tags
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    text = "\n".join(reader.text)
    # Title, kinds, models, sources, prompts, answers, commands, recipes, host.
    assert text.count(shown(hostile)) >= 20


def test_nothing_is_loaded_from_elsewhere(report):
    html = page.html(report)
    links = [value for name, value in read(report).attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "@import" not in html
    assert "url(http" not in html


def test_both_colour_schemes_and_small_screens_are_meant(report):
    html = page.html(report)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert "currentColor" in html


def test_the_same_folders_give_the_same_bytes(folders, report, hostile):
    again = page.Page(hostile, sections([Run(name, path) for name, path in folders.items()]))
    assert page.html(again) == page.html(report)
    assert page.markdown(again) == page.markdown(report)


def test_every_table_of_the_markdown_keeps_its_columns(report):
    lines = page.markdown(report).splitlines()
    fence = None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if fence:
            fence = None if line == fence else fence
        elif match := re.fullmatch(r"(`{3,})text", line):
            fence = match[1]
        elif line.startswith("|") and following.startswith("|"):
            columns = [len(re.findall(r"(?<!\\)\|", row)) for row in (line, following)]
            assert columns[0] == columns[1], line
    assert fence is None


def test_markdown_shows_hostile_text_as_text(report, hostile):
    told = re.sub(r"(?s)^(`{3,})text\n.*?^\1$", "", page.markdown(report), flags=re.M)
    assert "<script" not in re.sub(r"\\<", "", told)
    assert not re.search(r"(?<!\\)\]\((?!\S+\.svg\))", told)
    assert "\x00" not in page.markdown(report)


def test_markdown_and_html_tell_the_same_numbers(report):
    html = "\n".join(read(report).text)
    tables = [b for s in report.sections for b in s.blocks if isinstance(b, page.Table)]
    assert len(tables) >= 8
    for cell in (cell for table in tables for row in table.rows for cell in row):
        assert shown(cell) in html


def test_every_table_and_figure_names_the_files_of_its_numbers(report, folders):
    blocks = [block for section in report.sections for block in section.blocks]
    told = [b.source for b in blocks if isinstance(b, page.Table | page.Figure)]
    assert len(told) >= 10
    for source in (name for names in told for name in names.split(", ")):
        assert any(source.startswith(path.as_posix()) for path in folders.values())
        assert next(iter(folders.values())).parent.joinpath(source).is_file()


def test_figures_are_drawings_with_real_text(report, hostile):
    drawn = page.figures(report)
    training = {f"loss-{name}.svg" for name in ("pretrain", "sft", "dpo", "grpo")}
    alignment = {"preferences-dpo.svg", "calibration-reward.svg", "rl-grpo.svg"}
    assert set(drawn) == {"accuracy-evaluate.svg", "needles-evaluate.svg", *training, *alignment}
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        texts = ["".join(element.itertext()) for element in root.iter() if "text" in element.tag]
        assert texts
        assert not re.search(r"#[0a]0\d{4}", svg)  # every stand-in became a colour of the page
    assert "learning" not in drawn["accuracy-evaluate.svg"]
    assert "&lt;script&gt;" in drawn["accuracy-evaluate.svg"]


def test_a_long_curve_is_thinned_to_means():
    values = list(range(10_000))
    thinned = figures._thinned(values)
    assert len(thinned) <= figures.POINTS
    assert sum(thinned) / len(thinned) == pytest.approx(sum(values) / len(values))
    assert figures._thinned([]) == []


def test_a_fence_is_longer_than_any_in_its_text():
    text = page.markdown(page.Page("t", [page.Section("s", [page.Code("a\n`````\nb")])]))
    assert "``````text\na\n`````\nb\n``````" in text


def test_every_one_of_many_curves_is_drawn():
    drawn = [figures.Curve(f"run {n}", [1, 2], [n, n + 1.0]) for n in range(6)]
    for svg in (figures.against(drawn, "x", "y"), figures.panels({"loss": drawn})):
        assert all(f">run {n}<" in svg for n in range(6))


def test_what_no_page_may_hold_is_replaced():
    text = page.html(page.Page("a\ud800\x85\uffffb\r\nc", []))
    assert "<h1>a\ufffd\ufffd\ufffdb\nc</h1>" in text
    text.encode()
