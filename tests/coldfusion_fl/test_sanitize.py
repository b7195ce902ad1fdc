"""Texts of other parties in files that a spreadsheet opens."""

import pytest

from coldfusion_fl.sanitize import neutralize_formula


@pytest.mark.parametrize("cell", ["=1+1", " =1", "\u00a0=1", "\u200b=1", "＝1", "@x", "-1+1", "\tx"])
def test_a_formula_becomes_text(cell):
    assert neutralize_formula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["a=1", "x", "", -1.5, None])
def test_other_cells_stay(cell):
    assert neutralize_formula(cell) == cell
