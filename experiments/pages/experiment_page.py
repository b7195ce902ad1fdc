"""`report.html` of an experiment: the verdict first, then the tables of `report.md`."""

from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup

from coldfusion_fl.pages.charts import Chart, Curve, Point, line_chart, whiskers
from coldfusion_fl.pages.rendering import render

from ..statistics import estimate
from ..tables import Results, report
from .verdict import caveat, findings

NAME = "report.html"
_KINDS = 8  # styles of lines


def experiment_page(results: Results) -> str:
    """The report of an experiment as HTML.

    Args:
        results: its scores.
    """
    setup, *sections = report(results.scores).split("\n## ")
    _, _, setup = setup.partition("\n")  # without the title
    about = results.scores.facts["experiment"]
    return render(
        "experiment.html",
        "tables.js",
        title=about["title"],
        question=about["question"],
        findings=findings(results),
        caveat=caveat(results),
        heads=results.heads,
        gains=_gains(results),
        charts=(charts := _charts(results)),
        legend=list({line.label: line.kind for _, chart in charts for line in chart.lines}.items()),
        setup=_html(setup.replace(about["question"], "", 1)),
        sections=[(head, _html(body)) for head, _, body in (part.partition("\n") for part in sections)],
    )


def _gains(results: Results) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each recipe with its gains over the base, by kind of score; each kind has a scale of its own."""
    names = results.recipes[1:]
    columns = []
    for column in results.columns:
        found = [results.gain(name, *column) for name in names]
        rows = [
            {} if one is None else {"gain-difference": one.mean, "gain-low": one.low, "gain-high": one.high}
            for one in found
        ]
        drawn = whiskers(rows, "gain")
        columns.append([row | {"whisker": whisker} for row, whisker in zip(rows, drawn, strict=True)])
    return [(name, [rows[place] for rows in columns]) for place, name in enumerate(names)]


def _charts(results: Results) -> list[tuple[str, Chart]]:
    """The mean gains over the rounds, a chart for each kind of score, of the recipes that have rounds."""
    charts = []
    for mode, role in results.columns:
        curves = []
        for place, name in enumerate(results.recipes[1:]):
            course = results.course(name, mode, role)
            found = [(number, one) for number, cells in course.items() if number and (one := estimate(cells))]
            if len(found) > 1:
                points = [Point(0, 0.0), *(Point(number, one.mean) for number, one in found)]
                curves.append(Curve(name, str(place % _KINDS), points))
        if chart := line_chart(curves, 420, 240, labels=12, names=False):
            charts.append((f"{mode}, {role}", chart))
    return charts


def _html(markdown: str) -> Markup:
    """Markdown as HTML, without any markup of its own; tables scroll and can be sorted."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = parser.parse(markdown)
    for token in tokens:
        # The page's policy forbids style attributes.
        if "text-align:right" in str(token.attrs.pop("style", "")):
            token.attrs["class"] = "right"
        if token.type == "table_open":
            token.attrs["class"] = "sortable"
    return Markup(_Renderer().render(tokens, parser.options, {}))


class _Renderer(RendererHTML):
    def table_open(self, tokens: Any, idx: int, options: Any, env: Any) -> str:
        opened = self.renderToken(tokens, idx, options, env)
        return f'<div class="scroll" role="region" aria-label="Table" tabindex="0">{opened}'

    def table_close(self, tokens: Any, idx: int, options: Any, env: Any) -> str:
        return f"{self.renderToken(tokens, idx, options, env)}</div>"
