"""Models and reference values side by side, and phase diagrams of what is there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from dash import Input, Output, State, dcc, html, no_update

from ase_matprop.app import phases
from ase_matprop.app.callbacks.common import hint, problem, session_of, table
from ase_matprop.app.comparison import Agreement, Series, agreement, all_series, comparable
from ase_matprop.app.layout import options
from ase_matprop.app.sessions import Session
from ase_matprop.app.state import State as ServerState
from ase_matprop.errors import MatPropError

_FEWEST = 2  # entries with both values, for a plot
_LIGHT = {"darkgreen": "#5fd38d", "#c2410c": "#ff9a5c", "#15803d": "#5fd38d", "#0072B2": "#56B4E9"}  # for a dark page


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def offer(
        _: object, baseline: str | None, energies: str | None, reference: str | None, token: object
    ) -> tuple[Any, ...]:
        session = session_of(state, token)
        series = all_series(session) if session is not None else []
        bases = {each.key: each.label for each in series if comparable(each, series)}
        hulls = {each.key: each.label for each in series if each.property == phases.PROPERTY}
        values = {"": "nothing", **{each.key: each.label for each in series if each.is_reference}}
        return (
            options(bases), kept(baseline, bases), options(hulls), kept(energies, hulls), options(values),
            kept(reference, values),
        )  # fmt: skip

    def compare(baseline: str | None, _: object, theme: str, token: object) -> Any:
        session = session_of(state, token)
        return [] if session is None else comparison(session, baseline or "", dark=theme == "dark")

    def offer_systems(energies: str | None, _: object, chosen: str | None, token: object) -> tuple[Any, Any, bool]:
        session = session_of(state, token)
        found = {}
        if session is not None and (series := _named(session, energies)) is not None:
            found = {
                system.name: f"{system.name} ({len(system.numbers)} entr{'ies' if len(system.numbers) > 1 else 'y'})"
                for system in phases.systems(list(session.entries), series)
            }
        return options(found), kept(chosen, found), not found

    def draw(
        energies: str | None, system: str | None, reference: str | None, _: object, theme: str, token: object
    ) -> Any:
        session = session_of(state, token)
        if session is None or not energies or not system:
            return hint("A phase diagram needs predicted formation energies of two to four elements together.")
        return phase_diagram(session, energies, system, reference or "", dark=theme == "dark")

    def say(uploaded: dict[str, Any] | None) -> Any:
        if not uploaded or uploaded.get("purpose") != "references":
            return no_update
        text = "; ".join(str(part) for part in uploaded.get("refused", []))
        return f"{text}." if text and uploaded.get("added") else problem(text) if text else ""

    app.callback(
        *(
            Output(name, part)
            for name in ("baseline", "hull-energies", "hull-reference")
            for part in ("options", "value")
        ),
        Input("version", "data"),
        *(State(name, "value") for name in ("baseline", "hull-energies", "hull-reference")),
        State("session", "data"),
    )(offer)
    app.callback(
        Output("comparison", "children"),
        Input("baseline", "value"),
        Input("version", "data"),
        Input("theme", "data"),
        State("session", "data"),
    )(compare)
    app.callback(
        Output("hull-system", "options"),
        Output("hull-system", "value"),
        Output("phases-section", "hidden"),
        Input("hull-energies", "value"),
        Input("version", "data"),
        State("hull-system", "value"),
        State("session", "data"),
    )(offer_systems)
    app.callback(
        Output("phases", "children"),
        Input("hull-energies", "value"),
        Input("hull-system", "value"),
        Input("hull-reference", "value"),
        Input("version", "data"),
        Input("theme", "data"),
        State("session", "data"),
    )(draw)
    app.callback(Output("reference-notice", "children"), Input("uploaded", "data"), prevent_initial_call=True)(say)


def kept(value: str | None, known: dict[str, str]) -> str:
    """Return a choice if it can still be made, the first one otherwise."""
    return value if value is not None and value in known else next(iter(known), "")


def comparison(session: Session, key: str, *, dark: bool) -> Any:
    """Return the table of agreements with one series, and a parity plot for each property and unit."""
    baseline = _named(session, key)
    others = [] if baseline is None else comparable(baseline, all_series(session))
    if baseline is None or not others:
        return hint("Predict with two models of one property, or bring reference values, to compare.")
    found = [(other, agreement(baseline, other)) for other in others]
    kinds = {other.key: _kind(baseline, other, others) for other in others}
    rows = [_agreement_row(session, other, each, kinds[other.key][1]) for other, each in found]
    headings = [f"against {baseline.label}", "entries", "MAE", "RMSE", "mean difference", "largest", "where"]
    parts: list[Any] = [table(headings, rows, f"Agreement with {baseline.label}", numbers=(1, 2, 3, 4, 5))]
    drawn = [other for other, each in found if each.n >= _FEWEST]
    if not drawn:
        return [*parts, hint("A plot needs two entries or more that have both values.")]
    for kind in dict.fromkeys(kinds[other.key] for other in drawn):
        group = [other for other in drawn if kinds[other.key] == kind]
        try:
            parts.append(_graph(parity_figure(session, baseline, group, kind[1]), dark=dark, label="Parity plot"))
        except MatPropError as error:
            parts.append(problem(str(error)))
    return parts


def _kind(baseline: Series, other: Series, others: list[Series]) -> tuple[str, str]:
    """Return property and unit in which a series is compared; those of all models here for two reference columns."""
    known = next((each for each in (other, baseline) if not each.is_reference), None)
    if known is not None:
        return known.property, known.unit
    kinds = {(each.property, each.unit) for each in others if not each.is_reference}
    return kinds.pop() if len(kinds) == 1 else ("", "")


def parity_figure(session: Session, baseline: Series, others: list[Series], unit: str) -> Any:
    """Return the parity plot of some series against the baseline."""
    from ase_matprop.plots import parity

    name = next((other.property for other in [baseline, *others] if other.property), None)
    figure = parity(
        baseline.values,
        {other.label: other.values for other in others},
        unit=unit,
        property_name=name,
        names=[entry.name for entry in session.entries],
        backend="plotly",
    )
    figure.update_layout(xaxis_title=f"{baseline.label} ({unit})" if unit else baseline.label)
    return figure


def phase_diagram(session: Session, energies: str, name: str, reference: str, *, dark: bool) -> Any:
    """Return a phase diagram with its table."""
    entries = list(session.entries)
    series = _named(session, energies)
    if series is None:
        return hint("These energies are gone; predict again.")
    system = next((each for each in phases.systems(entries, series) if each.name == name), None)
    if system is None:
        return hint("This chemical system is gone; choose another one.")
    try:
        figure, stability = phases.diagram(entries, series, system, _named(session, reference))
    except MatPropError as error:
        return problem(str(error))
    rows = []
    for row in stability.sort_values("e_above_hull").to_dict("records"):
        above = row["e_above_hull"]
        mark = html.Span([html.Span("✓", **{"aria-hidden": "true"}), " on the hull"], className="badge good")
        energy = _shown(row["formation_energy_per_atom"])
        height = mark if row["stable"] else _shown(above)
        rows.append([row["name"], row["formula"], energy, height, str(row["decomposition"] or "")])
    headings = ["name", "formula", "formation energy (eV/atom)", "above the hull (eV/atom)", "decomposes into"]
    return [
        html.P("The hull is that of the entries here, with the elements at 0 eV/atom: a compound that is missing here "
               "may make others unstable.", className="hint"),
        _graph(figure, dark=dark, label=f"Phase diagram {name}"),
        table(headings, rows, f"Stability in {name}", numbers=(2, 3)),
    ]  # fmt: skip


def _agreement_row(session: Session, other: Series, found: Agreement, unit: str) -> list[Any]:
    numbers = [f"{_shown(value)} {unit}".strip() for value in (found.mae, found.rmse, found.bias, found.largest)]
    where = "" if found.worst is None else session.entries[found.worst].name
    return [other.label, str(found.n), *(numbers if found.n else ["–"] * 4), where]  # noqa: RUF001  a dash


def _shown(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else "–"  # noqa: RUF001  minus and dash


def _named(session: Session, key: str | None) -> Series | None:
    return next((each for each in all_series(session) if each.key == key), None) if key else None


def _graph(figure: Any, *, dark: bool, label: str) -> Any:
    restyle(figure, dark=dark)
    height = figure.layout.height or 480
    graph = dcc.Graph(figure=figure, config={"displaylogo": False, "responsive": True}, style={"height": "100%"})
    return html.Div(
        graph, className="plot", style={"height": f"{height}px"}, role="figure",
        **{"aria-label": f"{label}; the table has its numbers"},
    )  # fmt: skip


def restyle(figure: Any, *, dark: bool) -> None:
    """Give a figure the colours of the page; what is black on white would not be seen on a dark one."""
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        autosize=True,
        width=None,
        font={"color": "#e6e9ee" if dark else "#1c2430", "size": 13},
    )
    ink = "#e6e9ee" if dark else "#1c2430"
    figure.update_xaxes(title_font={"size": 14, "color": ink}, tickfont={"size": 12, "color": ink})
    figure.update_yaxes(title_font={"size": 14, "color": ink}, tickfont={"size": 12, "color": ink})
    figure.update_annotations(font_color=ink)
    if not dark:
        return
    figure.update_ternaries(bgcolor="rgba(0,0,0,0)")
    for trace in figure.data:
        for part in ("line", "textfont", "marker"):
            style: Any = getattr(trace, part, None)
            colour = getattr(style, "color", None)
            if isinstance(colour, str) and (light := _LIGHT.get(colour) or ("#c7ccd4" if _is_dark(colour) else None)):
                style.color = light


def _is_dark(colour: str) -> bool:
    digits = {"black": "000000", "#333": "333333", "#000": "000000"}.get(colour, colour.removeprefix("#"))
    try:
        parts = np.array([int(digits[start : start + 2], 16) for start in (0, 2, 4)])
    except ValueError:
        return False
    return bool(parts @ [0.2126, 0.7152, 0.0722] < 80 and parts.max() - parts.min() < 40)
