"""Page "New run": data, model and settings, and what they come to."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import streamlit as st

from regatta.configuration import TrainingConfig, flag
from regatta.dashboard import actions, choices, components, fields, reading, report, sources, words
from regatta.dashboard.choices import Choice, reading_values
from regatta.runs import service
from regatta.solvers import choose
from regatta.utils import RegattaError, available_cores

COMMON = ("workers", "validation")
STEPS = ("epochs", "batch_size", "learning_rate")
ADVANCED_STEPS = ("optimizer", "momentum", "schedule", "tol", "patience")
ADVANCED = ("folds", "rule", "shards", "precision", "seed")


def main() -> None:
    st.title("New run")
    take_over_settings()
    known = known_sources()
    if not known:
        show_empty()
        return
    service.make_ready(actions.store())
    left, right = st.columns([7, 4], gap="medium")
    with left:
        source = choose_source(known)
        with st.container():  # what comes and goes in it does not touch the fields below
            choice = choose_target(source, begin_with_choice(source))
        settings, wrong = choose_settings()
    with right, st.container(border=True):
        show_summary(source, choice, settings, wrong)


def show_empty() -> None:
    """No file is here yet: offer the ways to one."""
    with st.container(border=True):
        st.header("First, some data")
        st.markdown("A run learns from a CSV file. Upload one, or take a sample.")
        if st.button("Go to Data", type="primary", icon=":material/arrow_forward:"):
            actions.go_to_data()


def take_over_settings() -> None:
    """``?like=<run>``: start from the settings of another run."""
    like = st.query_params.get("like", "")
    if like == fields.begun_with():
        return
    fields.begin_with("", {})
    st.session_state.pop("like", None)
    if not like:
        return
    try:
        config = actions.store().config(like)
        exact = actions.store().get(like).solver == "exact"
    except RegattaError:
        return
    settings = {**config.to_json(), "solver": "exact" if exact else "sgd"}
    rate = st.query_params.get("rate")
    if rate:  # what a diverged run suggests
        settings["learning_rate"] = rate
    fields.begin_with(like, settings)
    choice = Choice(config.target, config.drop, config.in_force())
    st.session_state["like"] = {"run_id": like, "path": config.path, "choice": choice}


def known_sources() -> dict[str, sources.Source]:
    """The files to choose from: that of the run to start from too, wherever it lies."""
    known = {each.key: each for each in sources.list_sources()}
    like = st.session_state.get("like", {})
    if like and all(str(each.path) != like["path"] for each in known.values()):
        with contextlib.suppress(RegattaError):
            own = sources.of_run(like["run_id"])
            known = {own.key: own, **known}
    return known


def choose_source(known: dict[str, sources.Source]) -> sources.Source:
    """The file to train on."""
    wanted = st.query_params.get("file", "")
    like = st.session_state.get("like", {})
    matching = [key for key, each in known.items() if str(each.path) == like.get("path")]
    keys = list(known)
    if wanted not in known:
        wanted = matching[0] if matching and st.query_params.get("like") else keys[0]
    if like and not matching:
        name = words.plain(Path(like["path"]).name)
        st.info(f"{name} of that run is not there any more: choose the file to train on.")
    labels = sources.labels(list(known.values()))
    key = st.selectbox("Data", keys, index=keys.index(wanted), format_func=labels.__getitem__)
    return known[key]


def begin_with_choice(source: sources.Source) -> Choice:
    """What is in the address, else that of the run to start from, else what was chosen before."""
    choice = choices.load(source.key)
    like = st.session_state.get("like", {})
    if st.query_params.get("file") == source.key:
        if target := st.query_params.get("target"):
            return replace(choice, target=target, drop=tuple(st.query_params.get_all("drop")))
    elif like.get("path") == str(source.path):
        return cast(Choice, like["choice"])
    return choice if choice.target else replace(choice, target=source.suggested_target)


def choose_target(source: sources.Source, choice: Choice) -> Choice:
    """Target and columns to leave out, from the file's report. The file is read as chosen before;
    until it is, there is no target."""
    nothing = replace(choice, target="", drop=())
    job = source.start_inspection(choice.reading)
    status = job.status()
    if status.is_running:
        components.wait_for(job, "Reading the file", cancel=True)
        return nothing
    if status.state != "done":
        actions.tell_failure(status)
        show_way_to_data(source, choice)
        return nothing
    key = f"new-{source.key}"
    target, drop = report.choose_columns(status.result["report"], choice, key=key)
    if choice.reading:
        show_way_to_data(source, choice)
    report.show_about_target(source, choice, target, drop, key)
    return replace(choice, target=target or "", drop=tuple(drop))


def show_way_to_data(source: sources.Source, choice: Choice) -> None:
    """How the file is read, and where that is changed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if choice.reading:
            told = f":material/tune: Read with your options: {reading.in_force(choice.reading)}"
            st.caption(told, width="stretch")
        if st.button("See how it is read", icon=":material/table_view:", type="tertiary"):
            actions.go_to_data(file=source.key)


def choose_settings() -> tuple[dict[str, Any], list[str]]:
    """The settings, and the names of the fields that hold something that is not allowed."""
    settings: dict[str, Any] = {}
    wrong: list[str] = []

    def ask(name: str) -> None:
        try:
            settings[name] = fields.field(name)
        except fields.Invalid:
            wrong.append(name)

    st.header("Model")
    settings["model"] = fields.model_choice()
    penalised = settings["model"] != "linear"
    columns = st.columns(2)
    if penalised:
        with columns[0]:
            ask("alpha")
    if settings["model"] == "elasticnet":
        with columns[1]:
            ask("l1_ratio")
    st.header("Training")
    settings["solver"] = fields.solver_choice()
    stepwise = settings["solver"] != "exact"
    ask_in_grid((*STEPS, *COMMON) if stepwise else COMMON, ask)
    with st.expander("Advanced", icon=":material/tune:", expanded=False):
        ask_in_grid((*ADVANCED_STEPS, *ADVANCED) if stepwise else ADVANCED, ask)
    settings["name"] = st.text_input(
        "Name of the run", placeholder="optional", key="option-name", max_chars=80
    )
    return settings, wrong


def ask_in_grid(names: tuple[str, ...], ask: Any) -> None:
    """Fields in rows of three; on a narrow screen one under the other."""
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3], strict=False):
            with column:
                ask(name)


def show_summary(
    source: sources.Source, choice: Choice, settings: dict[str, Any], wrong: list[str]
) -> None:
    """What will be trained, what it will take, and the button."""
    st.header("This run")
    model = words.MODEL_NAMES.get(settings["model"], settings["model"])
    target = choice.target
    goal = f"predicts **{words.plain(target)}**" if target else "predicts: choose the target"
    st.markdown(f"**{model}** on {words.plain(source.name)}  \n{goal}")
    status = source.inspection(choice.reading).status()
    found = status.result["report"] if status.state == "done" else None
    if found:
        show_estimate(found, choice, settings)
    enough = not found or columns_used(found, choice) > 0
    config = make_config(source, choice, settings) if target and enough and not wrong else None
    if st.button(
        "Start training",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=config is None,
    ):
        start(config)
    if wrong:
        names = ", ".join(fields.label(name) for name in wrong)
        st.caption(f":red[:material/error: Mend first: {names}.]")
    elif not target:
        st.caption("Choose the column to predict, then start.")
    elif not enough:
        st.caption(":red[:material/error: No column is left to learn from.]")
    if config is not None:
        show_unused(config, found)
        with st.expander("The same from a terminal", icon=":material/terminal:"):
            st.code(command_line(config), language="bash", wrap_lines=True)


def show_unused(config: TrainingConfig, found: report.Report | None) -> None:
    """Which settings will have no effect, and why."""
    rows = None if found is None else training_rows(found, config.target, config.validation)
    with contextlib.suppress(RegattaError):  # what is wrong is told when it is started
        for note in choose.without_effect(config, rows):
            st.caption(f":orange[:material/info:] {words.plain(fields.in_page_words(note))}")


def training_rows(found: report.Report, target: str, held_out: float) -> int:
    """About how many rows will be trained on."""
    rows = rows_with_target(found, target)
    return rows - round(rows * held_out)


def rows_with_target(found: report.Report, target: str) -> int:
    """The rows that can be learned from."""
    return int(found.get("rows") or 0) - report.missing_cells(found, target)


def columns_used(found: report.Report, choice: Choice) -> int:
    """Columns beside the target that are not dropped."""
    return len(found["columns"]) - 1 - len(choice.drop)


def show_estimate(found: report.Report, choice: Choice, settings: dict[str, Any]) -> None:
    """Rows, columns and memory-mapped bytes, as far as they are known before the import."""
    rows = rows_with_target(found, choice.target)
    used = columns_used(found, choice)
    share = settings.get("validation", 0.2)
    held_out = round(rows * share)
    workers = settings.get("workers")
    count = available_cores() if workers is None else workers
    st.markdown(
        f"- about {rows - held_out:,} rows to train on, {held_out:,} held out\n"
        f"- {used} column{'s' if used != 1 else ''} to learn from\n"
        f"- {'in this process' if count == 0 else f'{count} worker processes'}\n"
        f"- about {words.size(rows * max(used, 1) * 4)} of prepared rows on disk"
    )


def make_config(
    source: sources.Source, choice: Choice, settings: dict[str, Any]
) -> TrainingConfig | None:
    """The configuration, or ``None`` after telling why there is none."""
    try:
        return TrainingConfig(
            path=str(source.path),
            target=choice.target,
            drop=choice.drop,
            **reading_values(choice.reading),
            **settings,
        )
    except RegattaError as error:
        actions.tell(error)
        return None


def start(config: TrainingConfig | None) -> None:
    """Queue the run and go to it."""
    if config is None:
        return
    try:
        actions.launch(config)
    except RegattaError as error:
        actions.tell(error)


def command_line(config: TrainingConfig) -> str:
    """The command that does the same: what differs from the defaults alone."""
    parts = ["regatta", "train", config.path, "--target", config.target]
    for name, declared in fields.DECLARED.items():
        value = getattr(config, name)
        if name in {"path", "target"} or value == declared.default:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            parts += [flag(name), f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join(parts)


main()
