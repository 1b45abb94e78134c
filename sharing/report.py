"""The report: all that is known of a finished run in one HTML file that needs nothing else.

Charts are drawn by the Plotly that the page uses, written into the file; each has a caption that
says what it shows, and a table, so the report can be read without scripts. Every text from a file
or a user is escaped, and the file's own policy forbids all other scripts and every connection.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regatta import figures
from regatta.explain import charts
from regatta.explain.charts import Chart
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.sharing import facts as told
from regatta.sharing.curves import loss_curve
from regatta.sharing.facts import RunFacts, figure

HERE = Path(__file__).resolve().parent / "static"
PAGE_STATIC = HERE.parents[1] / "dashboard" / "static"
PLOTLY = "plotly-cartesian-4.1.1.min.js"

TABLED_EFFECTS = 200
TABLED_RANGES = 200
TABLED_ALPHAS = 20
SHOWN_EVENTS = 100
SHOWN_OUTLIERS = 10
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass
class _Page:
    """The parts of the file, and the charts that its script draws."""

    facts: RunFacts
    charts: list[Chart] = field(default_factory=list)

    def chart(self, title: str, chart: Chart, table: str = "", *, spoken: bool = False) -> str:
        """A chart with its caption and the table of what it shows. A ``spoken`` caption tells what
        the chart does, value by value: it is there for who does not see it."""
        place = len(self.charts)
        self.charts.append(chart)
        note = f"<p class='note'>{text(chart.note)}</p>" if chart.note else ""
        folded = f"<details><summary>As a table</summary>{table}</details>" if table else ""
        kind = " class='spoken'" if spoken else ""
        return (
            f"<figure><h3>{text(title)}</h3>"
            f"<div class='chart' id='chart-{place}' aria-hidden='true'></div>"
            f"<figcaption{kind}>{text(chart.text)}</figcaption>{note}{folded}</figure>"
        )


def report(facts: RunFacts, directory: RunDirectory) -> str:
    """The report of a finished run, as HTML.

    Parameters
    ----------
    directory : RunDirectory
        Where its curves and events are.
    """
    page = _Page(facts)
    reader = MetricsReader(directory.metrics)
    sections = [
        ("warnings", "To know", _warnings(facts)),
        ("scores", "Scores", _scores(page)),
        ("errors", "Errors on held-out rows", _errors(page)),
        ("effects", "What moves the prediction", _effects(page)),
        ("path", "How alpha was chosen", _path(page)),
        ("training", "Training", _training(page, reader)),
        ("data", "Data", _data(facts)),
        ("range", "Valid within", _ranges(facts)),
        ("events", "Events", _events(reader, facts)),
        ("made", "Made with", _made(facts)),
    ]
    shown = [each for each in sections if each[2]]
    links = "".join(f"<a href='#{name}'>{text(title)}</a>" for name, title, _ in shown)
    body = "".join(
        f"<section id='{name}' class='{name}'><h2>{text(title)}</h2>{content}</section>"
        for name, title, content in shown
    )
    head = (
        f"<header><h1>{text(facts.title)}</h1><p>{text(told.in_a_sentence(facts))}</p>"
        f"{_tiles(facts)}<nav aria-label='Sections'>{links}</nav></header>"
    )
    end = (
        f"<footer>Made by Regatta {text(facts.model.regatta_version)}"
        f"{text(' on ' + facts.ended if facts.ended else '')}. This file holds everything it "
        "shows and connects to nothing.</footer>"
    )
    return _document(facts, f"<main>{head}{body}{end}</main>", page.charts)


def text(value: object) -> str:
    """Text that HTML reads as text, in an attribute too."""
    return html.escape(UNPRINTABLE.sub("\ufffd", str(value)), quote=True)


# -- the file -------------------------------------------------------------------------------------


def _document(facts: RunFacts, body: str, drawn: Sequence[Chart]) -> str:
    scripts = [
        (PAGE_STATIC / PLOTLY).read_text(encoding="utf-8"),
        "(() => {\n"
        + (PAGE_STATIC / "shared.js").read_text(encoding="utf-8")
        + (HERE / "report.js").read_text(encoding="utf-8")
        + "})();\n",
    ]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return "".join(
        [
            "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>",
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            "<meta name='referrer' content='no-referrer'>",
            f"<title>{text(facts.title)}</title>",
            f"<style>{(HERE / 'report.css').read_text(encoding='utf-8')}</style></head><body>",
            body,
            f"<script type='application/json' id='charts'>{_as_json(drawn)}</script>",
            *(f"<script>{each}</script>" for each in scripts),
            "</body></html>\n",
        ]
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _as_json(drawn: Sequence[Chart]) -> str:
    """The charts, so that no text in them can end the script element that they stand in."""
    plain = [
        {"traces": each.traces, "layout": each.layout, "height": each.height} for each in drawn
    ]
    # Infinity and NaN are no JSON: a gap in a chart.
    dumped = json.dumps(_finite(plain), allow_nan=False)
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


# -- sections -------------------------------------------------------------------------------------


def _tiles(facts: RunFacts) -> str:
    seconds = facts.result.get("seconds") or {}
    total = max(seconds.get("total") or 0.0, seconds.get("train") or 0.0)
    tiles = [
        (f"{name} on held-out rows", *_split(told.score_of(facts, "validation", key)))
        for name, key in told.SCORES
    ]
    tiles.append(("Rows trained on", f"{facts.result.get('rows_train', 0):,}", ""))
    tiles.append(("Time in all", f"{total:.3g} s", ""))
    cells = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)} <small>{text(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return f"<dl class='tiles'>{cells}</dl>"


def _split(score: str) -> tuple[str, str]:
    value, _, spread = score.partition(" ± ")
    return value, f"± {spread}" if spread else ""


def _warnings(facts: RunFacts) -> str:
    return _list(told.warnings(facts))


def _scores(page: _Page) -> str:
    rows = told.score_rows(page.facts)
    table = _table(("", "held-out rows", "training rows"), rows, numbers=(1, 2))
    return f"{table}<p class='note'>{text(told.about_scores(page.facts))}</p>"


def _errors(page: _Page) -> str:
    found = page.facts.errors
    if found is None:
        return f"<p class='quiet'>{text(page.facts.why_no_errors)}</p>"
    bins = _table(
        ("Predicted, about", "Quarter below", "Median residual", "Quarter above", "Rows"),
        [
            (*(figure(each[key]) for key in ("x", "low", "median", "high")), f"{each['rows']:,}")
            for each in found["medians"]
        ],
        numbers=range(5),
    )
    first = page.chart("Predicted against actual", charts.predicted_against_actual(found))
    second = page.chart(
        "Residuals against predictions", charts.residuals_against_fitted(found), bins
    )
    third = page.chart("How large residuals are", charts.residual_histogram(found))
    return (
        f"<div class='pair'>{first}{second}</div><div class='pair'>{third}"
        f"<div><h3>Largest errors</h3>{_largest(found)}</div></div>"
    )


def _largest(found: Mapping[str, Any]) -> str:
    """The largest errors, with the lines of the file where these are known."""
    titles = ["Row", "Actual", "Predicted", "Residual", "Standard deviations"]
    rows = [
        [
            f"{each['row']:,}",
            figure(each["actual"]),
            figure(each["predicted"]),
            figure(each["residual"], "+"),
            "–" if each["deviations"] is None else f"{each['deviations']:+.2f}",
        ]
        for each in found["outliers"][:SHOWN_OUTLIERS]
    ]
    lines = [each["line"] for each in found["outliers"][:SHOWN_OUTLIERS]]
    if lines and None not in lines:
        titles.insert(1, "Line")
        for row, line in zip(rows, lines, strict=True):
            row.insert(1, f"{line:,}")
    return _table(titles, rows, numbers=range(len(titles)))


def _effects(page: _Page) -> str:
    effects = page.facts.effects()
    if not effects:
        return "<p>The model predicts the mean: it has no coefficients.</p>"
    rows = told.effect_rows(effects, TABLED_EFFECTS)
    titles = ["Feature", "One unit more", "One standard deviation more"]
    if any(row[3] for row in rows):
        level = (page.facts.result.get("inference") or {}).get("level")
        titles.append(f"{level:.0%} interval, one unit" if level else "Interval, one unit")
    table = _table(titles, [row[: len(titles)] for row in rows], numbers=range(1, len(titles)))
    drawn = page.chart(
        "Coefficients", charts.forest(effects, standardised=True), table, spoken=True
    )
    why_not = (page.facts.result.get("inference") or {}).get("why_not")
    note = f"<p class='note'>{text(why_not)}</p>" if why_not else ""
    more = len(effects) - len(rows)
    left = f"<p class='note'>{more:,} more coefficients are not in the table.</p>"
    return drawn + note + (left if more > 0 else "")


def _path(page: _Page) -> str:
    path = page.facts.path
    if path is None:
        return ""
    plain = figures.regularisation_path(path).to_plotly_json()
    plain["layout"].pop("template", None)
    kept = figures.thinned(path["alphas"], TABLED_ALPHAS, (path["index_min"], path["index_1se"]))
    marks = {path["index_min"]: "least error", path["index_1se"]: "one standard error"}
    table = _table(
        ("Alpha", "Mean squared error", "Standard error", "Coefficients that are not zero", ""),
        [
            (
                f"{path['alphas'][place]:.4g}",
                figure(path["mean_error"][place]),
                figure(path["standard_error"][place]),
                f"{path['n_nonzero'][place]:,}",
                marks.get(place, ""),
            )
            for place in kept
        ],
        numbers=range(4),
    )
    caption = (
        f"Cross-validation error and coefficients along {len(path['alphas'])} penalties: least "
        f"error at alpha {path['alpha_min']:.4g}, within one standard error of it up to "
        f"{path['alpha_1se']:.4g}; used is {path['alpha']:.4g}."
    )
    chart = Chart(_lists(plain["data"]), _lists(plain["layout"]), caption, height=560)
    return page.chart("Regularisation path", chart, table)


def _training(page: _Page, reader: MetricsReader) -> str:
    chart, rows = loss_curve(reader, exact=page.facts.result.get("solver") == "exact")
    drawn = ""
    if chart is not None:
        titles = ("Step", "Training loss", "Validation loss", "Validation R²")
        drawn = page.chart("Loss", chart, _table(titles, rows, numbers=range(4)))
    return drawn + _facts(told.model_rows(page.facts))


def _data(facts: RunFacts) -> str:
    repairs = told.repairs(facts)
    repaired = f"<h3>Repaired</h3>{_list(repairs)}" if repairs else ""
    reading = told.reading_rows(facts)
    how = f"<div><h3>How it was read</h3>{_facts(reading)}{repaired}</div>" if reading else ""
    rows = f"<div><h3>The file and its rows</h3>{_facts(told.data_rows(facts))}</div>"
    return f"<div class='pair'>{rows}{how}</div>"


def _ranges(facts: RunFacts) -> str:
    rows = told.range_rows(facts)
    table = _table(("Column", "Kind", "In the training rows"), rows[:TABLED_RANGES])
    target = told.target_range(facts)
    said = f" The target went from {text(target)}." if target else ""
    more = len(rows) - TABLED_RANGES
    left = f"<p class='note'>{more:,} more columns are not in the table.</p>" if more > 0 else ""
    return (
        "<p class='note'>Beyond these values a linear model draws straight lines on, and nothing "
        f"says that they are right.{said}</p>{table}{left}"
    )


def _events(reader: MetricsReader, facts: RunFacts) -> str:
    found = reader.newest("events", SHOWN_EVENTS)
    folder = f"{Path(facts.config.path).parent}/"
    rows = [
        (
            f"{each['seconds']:.2f} s" if each["seconds"] is not None else "–",
            "–" if each["step"] is None else f"{each['step']:,}",
            str(each["message"] or each["kind"] or "").replace(folder, ""),
        )
        for each in found
    ]
    if not rows:
        return ""
    return _table(("Time in training", "Step", "What"), rows, numbers=(0, 1))


def _made(facts: RunFacts) -> str:
    return (
        f"{_facts(told.made_rows(facts))}<p class='note'>{text(told.about_command(facts))}</p>"
        f"<pre><code>{text(told.command(facts.config))}</code></pre>"
    )


# -- parts ----------------------------------------------------------------------------------------


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(
        f"<tr><th scope='row'>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in rows
    )
    return f"<table class='facts'><tbody>{lines}</tbody></table>"


def _table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()
) -> str:
    kinds = [" class='n'" if place in numbers else "" for place in range(len(titles))]
    head = "".join(
        f"<th scope='col'{kind}>{text(each)}</th>" for each, kind in zip(titles, kinds, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{text(each)}</td>" for each, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(each)}</li>' for each in texts)}</ul>" if texts else ""


def _lists(value: Any) -> Any:
    """Plotly's tuples and arrays as lists."""
    if isinstance(value, Mapping):
        return {key: _lists(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_lists(each) for each in value]
    return value
