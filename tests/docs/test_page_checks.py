"""What is wrong on a page is found: each page here has one error."""

import click
import pytest
from pages import ROOT, Page

from coldfusion_fl.errors import ColdFusionError


@pytest.fixture
def run_page(tmp_path, monkeypatch):
    """Tries a page with this text, in an empty folder."""

    def run(text):
        monkeypatch.setattr("pages.ROOT", tmp_path)
        (tmp_path / "page.md").write_text(text)
        (tmp_path / "work").mkdir()
        page = Page(tmp_path / "page.md", tmp_path / "work")
        page.run()
        return page

    return run


def console(*lines):
    return "\n".join(["```console", *lines, "```", ""])


def test_commands_share_a_shell_a_folder_and_files(run_page, tmp_path):
    page = run_page(
        console("$ mkdir sub && cd sub && greeting=hello")
        + '```csv title="sub/rows.csv"\na,b\n```\n'
        + console("$ cat rows.csv", "$ for word in $greeting there; do", ">   echo $word", "> done > said.txt")
        + console("$ sleep 60 &")
        + console("$ kill %1")
    )
    assert (tmp_path / "work" / "sub" / "said.txt").read_text() == "hello\nthere\n"
    assert not page.skipped


@pytest.mark.parametrize(
    ("text", "error", "fact"),
    [
        (console("$ true", "$ ls missing-file"), AssertionError, "exited with 2"),
        (console("ls"), AssertionError, "begins with '$ '"),
        (console("$ exit 0"), AssertionError, "ended the shell"),
        (console("$ sleep 60 &", "$ sleep 0.5"), AssertionError, "still running at the end of the page: sleep"),
        ("```toml\nrouns = 3\n```\n", ColdFusionError, "Did you mean 'rounds'?"),
        ('```toml\n[tasks.a]\ntrain = "a.csv"\nlable = "b"\n```\n', ColdFusionError, "lable"),
        ('```toml title="x.toml"\ntasks.seen = "a, b"\nbase = "c"\n```\n', ColdFusionError, "contributors-per-round"),
        ("```python\nfrom coldfusion_fl import missing\n```\n", ImportError, "missing"),
        ("```python\n>>> 1 + 1\n3\n```\n", AssertionError, "Expected"),
        ("<!-- expect: output -->\n```text\nhello\n```\n", AssertionError, "not printed"),
        (f'<!-- skip: next "slow" -->\n{console("$ coldfusion run a.toml --outt b")}', click.UsageError, "--outt"),
        (f'<!-- skip: next "slow" -->\n{console("$ ls && coldfusion runn a.toml")}', click.UsageError, "runn"),
        ('<!-- skip: next "slow" -->\n```python\nfrom x import\n```\n', SyntaxError, "invalid syntax"),
        ('<!-- skip: next "slow" -->\n```toml\nrouns = 3\n```\n', ColdFusionError, "rouns"),
        (f"<!-- skip: next -->\n{console('$ ls')}", AssertionError, "REASON"),
        ('<!-- skip: next "slow" -->\n', AssertionError, "no block follows"),
        ("<!-- generated: nothing of the kind -->\n", KeyError, "nothing of the kind"),
    ],
    ids=range(17),
)
def test_an_error_is_found(run_page, text, error, fact):
    with pytest.raises(error) as found:
        run_page(text)
    assert fact in f"{found.value} {getattr(found.value, 'message', '')}"


def test_a_skipped_block_is_counted_and_its_commands_are_parsed(run_page):
    page = run_page(f'<!-- skip: next "needs a network" -->\n{console("$ coldfusion run a.toml --out b", "$ false")}')
    assert page.skipped == ["needs a network"]


def test_output_is_compared_line_by_line_with_gaps(run_page):
    expected = "<!-- expect: output -->\n```text\none … three\nfour\n```\n"
    run_page(console("$ echo one two three; echo; echo 4; echo four") + expected)


def test_a_change_is_applied(run_page, tmp_path):
    (tmp_path / "server.py").write_text("a = 1\nb = 2\nc = 3\n")
    run_page("<!-- apply-to: server.py -->\n```diff\n-a = 1\n+a = 2\n…\n b = 2\n-c = 3\n+c = 4\n```\n")


def test_a_change_that_does_not_fit_its_file_is_found(run_page, tmp_path):
    (tmp_path / "server.py").write_text("a = 1\n")
    with pytest.raises(AssertionError, match="does not have once"):
        run_page("<!-- apply-to: server.py -->\n```diff\n-b = 1\n+b = 2\n```\n")


def test_a_port_of_this_machine_is_a_free_one(run_page, tmp_path):
    run_page(console("$ echo 127.0.0.1:9443 > one.txt; echo 127.0.0.1:9443 > other.txt"))
    one, other = ((tmp_path / "work" / name).read_text() for name in ("one.txt", "other.txt"))
    assert one == other != "127.0.0.1:9443\n"


def test_the_pages_are_those_of_this_repository():
    assert (ROOT / "mkdocs.yml").is_file()
