"""`coldfusion report`."""

from scored_runs import make_scored_run


def test_the_command_writes_the_page_of_a_run(coldfusion, tmp_path):
    folder = make_scored_run(tmp_path / "[red] run", rounds=2).folder
    code, out, err = coldfusion("report", folder)
    assert code == 0, err
    assert out.strip() == f"Written to {folder}/report.html"
    assert "report of a run" in (folder / "report.html").read_text()


def test_another_folder_is_an_error(coldfusion, tmp_path):
    code, _, err = coldfusion("report", tmp_path)
    assert code == 2
    assert "not a run folder" in err
