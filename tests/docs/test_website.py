"""The site's generated reference has all there is, and its index every page. Sphinx itself runs in `make docs`, and in CI."""

import importlib
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from docs.website.documents import PRINTED, WHOLE, WRITTEN, document_page, schemas_page
from docs.website.gallery import REPORTS, STORIES
from docs.website.generate import reference_pages
from docs.website.markup import code, plain
from docs.website.metrics import SOURCES, metrics_of, metrics_page
from docs.website.pages import copy_pages, folder_page, repository_pages, with_links
from docs.website.program import exit_code_meanings, exit_codes_page, verb_section
from tests.commands import options_of_verbs

from p2pnet.cli.documents import KINDS
from p2pnet.cli.exit_code import ExitCode
from p2pnet.cli.program import VERBS
from p2pnet.cli.verbs.schema import schema_of
from p2pnet.operator.metrics import Metrics

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs" / "website" / "index.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_document_stands_on_its_page_with_its_meaning(kind):
    schema, text = schema_of(kind), document_page(kind)
    shapes = {WHOLE: schema, **schema.get("$defs", {})}
    for name, body in shapes.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for field, one in body.get("properties", {}).items():
            assert f"| {code(field)} |" in section, f"{name}.{field}"
            assert plain(one.get("description", "")) in section


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_field_that_people_write_says_what_it_means(kind):
    for name, body in schema_of(kind)["$defs"].items():
        silent = [field for field, one in body.get("properties", {}).items() if not one.get("description")]
        assert silent == [] or name == kind, name


def test_links_between_shapes_of_a_page_lead_to_one_place():
    everywhere = []
    for kind in KINDS:
        text = document_page(kind)
        places = re.findall(r"^\((shape-.+)\)=$", text, re.MULTILINE)
        assert set(re.findall(r"\]\(#(shape-[^)]+)\)", text)) <= set(places)
        everywhere += places
    assert len(everywhere) == len(set(everywhere))


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_stands_in_its_section(verb):
    rows = [line for line in verb_section(verb).splitlines() if line.startswith("| `")]
    typed = {word for row in rows for word in re.findall(r"(?<![\w-])--?[a-zA-Z][-a-z]*", row.partition("` |")[0])}
    assert {word for word in options_of_verbs()[verb] if word.startswith("-")} <= typed
    assert VERBS[verb] in verb_section(verb)
    assert f"```sh\np2pnet {verb}" in verb_section(verb)


def test_every_exit_code_has_a_meaning_and_stands_in_both_references():
    assert list(exit_code_meanings()) == list(ExitCode)
    written = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    for text in (exit_codes_page(), written):
        assert [int(row) for row in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == sorted(map(int, ExitCode))


def test_every_metric_of_the_operator_stands_as_it_is_scraped():
    metrics = {f"{one.name}{'_total' * (one.type == 'counter')}": one for one in Metrics().registry.collect()}
    found = {one.name: one for one in metrics_of((ROOT / SOURCES["operator"]).read_text())}
    assert {name: (one.type, one.documentation) for name, one in metrics.items()} == {
        name: (one.kind, one.meaning) for name, one in found.items()
    }


@pytest.mark.parametrize("who", SOURCES)
def test_every_name_of_a_metric_in_the_code_stands_on_the_page(who):
    source = (ROOT / SOURCES[who]).read_text()
    names = set(re.findall(r'"(p2pnet_\w+[a-z])"', source))
    names |= {f"p2pnet_node_{name}" for name in re.findall(r'_gauge\("(\w+)"', source)}
    text = metrics_page()
    assert [name for name in names if f"`{name}`" not in text and f"`{name}_total`" not in text] == []


def test_no_other_module_makes_metrics():
    modules = [path for folder in ("node", "cli", "operator") for path in (ROOT / folder / "p2pnet").rglob("*.py")]
    makers = {path.relative_to(ROOT).as_posix() for path in modules if "prometheus_client import" in path.read_text()}
    assert makers | set(SOURCES.values()) == set(SOURCES.values())


def test_labels_that_are_no_list_are_refused():
    with pytest.raises(TypeError, match="line 1: labels are no list"):
        list(metrics_of("Gauge('a', 'b', labels())"))


def test_the_index_has_every_page_and_names_none_that_is_not_there():
    listed = [line for line in re.findall(r"^[\w/.*-]+$", INDEX, re.MULTILINE) if line != "p2pnet"]
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in repository_pages()}
    made = {name.removesuffix(".md") for name in reference_pages() if name.endswith(".md")} | {"gallery"}
    decisions = {name for name in pages if name.startswith("docs/decisions/")}
    assert "docs/decisions/*" in listed
    assert pages - decisions <= set(listed)
    assert set(listed) - {"docs/decisions/*"} <= pages | made
    assert made - set(listed) == {f"reference/printed/{kind}" for kind in PRINTED}
    assert "printed/*" in schemas_page()


def test_pages_are_copied_with_what_they_link_to_and_are_otherwise_as_they_are(tmp_path):
    copy_pages(tmp_path)
    for page in repository_pages():
        copied = (tmp_path / page.relative_to(ROOT)).read_text()
        assert re.sub(r"\]\([^)]*\)", "", copied) == re.sub(r"\]\([^)]*\)", "", page.read_text())
        links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", copied)
        assert [link for link in links if not (tmp_path / page.relative_to(ROOT).parent / link).is_file()] == []


def test_a_link_to_nothing_is_named(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.md)")
    monkeypatch.setattr(importlib.import_module("docs.website.pages"), "ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"page\.md links to gone\.md"):
        with_links(page)


def test_a_package_shows_its_modules_and_a_folder_its_files():
    assert "| `manager` |" in folder_page(ROOT / "node" / "p2pnet" / "broadcast")
    assert "## slow-link.yaml" in folder_page(ROOT / "examples" / "scenarios")


def test_the_gallery_shows_examples_that_there_are():
    assert all((ROOT / "examples" / f"{name}.yaml").exists() for name in REPORTS)
    assert all((ROOT / "examples" / "scenarios" / f"{name}.yaml").exists() for name in STORIES)


@pytest.mark.parametrize("text", ["a | b", "<script>", "{role}`x`", "a*b*c_d_", "[x](y)"])
def test_words_of_code_are_no_markup(text):
    assert not re.search(r"(?<!\\)[|<*_\[{]", plain(text))


def test_what_stands_in_backticks_stays_code():
    assert plain("give `a_b|c` *now*") == "give `a_b\\|c` \\*now\\*"
