// The live view of a run: tiles, progress, charts, worker table, log.
//
// It asks /api/runs/<id>/live?since=<cursor> for news and draws them into the same nodes with
// Plotly.react, so that zoom, hover and hidden legend entries survive. It stops when the run can
// change no more and while the tab is hidden, and tells the page's script when the state changes.

const PERIOD = 700;
// A run that broke off may be taken up again: by the supervisor at once, by a command any time.
const PERIODS = { queued: 1000, paused: 1000, interrupted: 1000, stopped: 4000, failed: 4000 };
const RETRY_PERIOD = 2000;
const MAX_POINTS = 1500;
const MAX_LOG_LINES = 400;

const STATE_SYMBOLS = {
  compute: ["●", "computing"],
  wait: ["◐", "waiting"],
  communicate: ["▲", "sending"],
  starting: ["○", "starting"],
  paused: ["❚❚", "paused"],
  asleep: ["○", "resting"],
  dead: ["✕", "dead"],
};

const views = new WeakMap();

export default function (component) {
  const { parentElement, data, setStateValue } = component;
  let view = views.get(parentElement);
  if (!view || view.runId !== data.run_id) {
    view?.destroy();
    view = new LiveView(parentElement, data.run_id);
    views.set(parentElement, view);
  }
  view.configure(data, setStateValue);
  return () => {
    view.destroy();
    views.delete(parentElement);
  };
}

class LiveView {
  constructor(parent, runId) {
    this.runId = runId;
    this.cursor = "";
    this.tag = "";
    this.history = emptyHistory();
    this.drawn = {};
    this.options = { show: "loss", scale: "log", axis: "step" };
    this.root = element("div", "rg-live");
    this.root.dataset.testid = "live-view";
    parent.append(this.root); // beside the style sheet, which stands in there too
    this.build();
    this.onVisible = () => {
      if (!document.hidden) this.poll();
    };
    document.addEventListener("visibilitychange", this.onVisible);
    // The theme is switched without a rerun: look for it, cheaply.
    this.themeTimer = setInterval(() => this.followTheme(), 1500);
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(this.root);
  }

  configure(data, setStateValue) {
    this.known = data.stands;
    this.reported = undefined;
    this.setStateValue = setStateValue;
    // The page's script may run again for another reason, or because an ended run was resumed.
    this.ended = this.hasEnded() && data.state === this.status.state;
    if (!this.ended) this.poll();
  }

  destroy() {
    this.destroyed = true;
    this.root.remove();
    clearTimeout(this.timer);
    clearInterval(this.themeTimer);
    this.resizes.disconnect();
    document.removeEventListener("visibilitychange", this.onVisible);
    if (window.Plotly) {
      for (const node of Object.values(this.plots)) window.Plotly.purge(node);
    }
  }

  // ---- asking -------------------------------------------------------------------------------

  async poll() {
    clearTimeout(this.timer);
    if (this.destroyed || this.asking) return;
    this.asking = true;
    let wait = PERIOD;
    try {
      const query = new URLSearchParams({ since: this.cursor, tag: this.tag });
      const answer = await fetch(`/api/runs/${this.runId}/live?${query}`, { cache: "no-store" });
      this.setConnection(true);
      if (answer.status === 200) this.take(await answer.json());
      else if (answer.status === 204) this.ended = this.hasEnded();
      else if (answer.status === 404) {
        this.ended = true;
        this.report("deleted");
      }
      wait = PERIODS[this.status?.state] ?? PERIOD;
    } catch (error) {
      this.setConnection(false);
      wait = RETRY_PERIOD;
    } finally {
      this.asking = false;
    }
    if (this.destroyed || this.ended || document.hidden) return;
    this.timer = setTimeout(() => this.poll(), wait);
  }

  take(update) {
    if (update.reset) this.history = emptyHistory();
    this.cursor = update.cursor;
    this.tag = update.tag;
    this.status = update.run;
    this.workers = update.workers;
    append(this.history.points, update.points);
    append(this.history.evaluations, update.evaluations);
    append(this.history.workers, update.worker_series);
    append(this.history.machine, update.machine);
    this.history.events.push(...update.events);
    this.history.log.push(...update.log);
    this.history.log.splice(0, this.history.log.length - MAX_LOG_LINES);
    this.newLog = update.log.length > 0 || update.reset;
    // Ask for everything anew, thinned by the server, before the traces grow beyond their size.
    if (this.history.points.step.length > 1.3 * MAX_POINTS) this.cursor = "";
    if (this.history.workers.rank.length > 6 * MAX_POINTS) this.cursor = "";
    this.ended = this.hasEnded();
    this.draw();
    this.report(update.run.stands);
  }

  /** Whether nothing can change any more. */
  hasEnded() {
    return ["finished", "diverged"].includes(this.status?.state);
  }

  report(stands) {
    if (stands === this.known || stands === this.reported) return;
    this.reported = stands;
    this.setStateValue("state", stands);
  }

  setConnection(there) {
    this.offline.hidden = there;
  }

  // ---- building -----------------------------------------------------------------------------

  build() {
    this.offline = element(
      "div",
      "rg-offline",
      "The page's server does not answer. The training goes on; this view comes back by itself.",
    );
    this.offline.setAttribute("role", "status");
    this.offline.hidden = true;
    this.tiles = {};
    const tiles = element("div", "rg-tiles");
    for (const [key, label, help] of [
      ["loss", "Training loss", "Half the mean squared error on training rows, in the target's unit squared. Gap: by how much the loss with its penalty exceeds that of the exact optimum."],
      ["r2", "Validation R²", "Share of the target's variance that is explained on rows held out: 1 is perfect, 0 is no better than the mean."],
      ["speed", "Throughput", "Training rows processed a second by all workers."],
      ["epoch", "Epoch", "Passes over the training rows."],
      ["time", "Time", "Time in training so far, and what is left at this speed."],
    ]) {
      tiles.append(this.buildTile(key, label, help));
    }
    this.root.append(this.offline, tiles, this.buildProgress(), this.buildGrid());
  }

  buildTile(key, label, help) {
    const tile = element("div", "rg-tile");
    tile.title = help;
    tile.dataset.testid = `tile-${key}`;
    const value = element("div", "rg-value", "–");
    const note = element("div", "rg-note", " ");
    tile.append(element("div", "rg-label", label), value, note);
    const spark = ["loss", "r2", "speed"].includes(key) ? sparkNode() : null;
    if (spark) tile.append(spark);
    this.tiles[key] = { value, note, spark };
    return tile;
  }

  buildProgress() {
    const box = element("div", "rg-progress");
    this.progressText = element("span", "", "");
    this.progressText.dataset.testid = "progress-text";
    this.progressTime = element("span", "", "");
    const head = element("div", "rg-progress-head");
    head.append(this.progressText, this.progressTime);
    this.track = element("div", "rg-track");
    this.track.setAttribute("role", "progressbar");
    this.track.setAttribute("aria-label", "progress of the run");
    this.bar = element("div", "rg-bar");
    this.track.append(this.bar);
    box.append(head, this.track);
    return box;
  }

  buildGrid() {
    this.plots = {};
    const grid = element("div", "rg-grid");
    const loss = this.card("rg-wide rg-tall", "Loss");
    this.showChoice = this.choice("show", [["loss", "loss"], ["gap", "gap"]]);
    this.showChoice.title = "Gap: how far the loss with its penalty is above the exact optimum";
    loss.firstChild.append(
      this.showChoice,
      this.choice("scale", [["log", "log"], ["linear", "linear"]]),
      this.choice("axis", [["step", "steps"], ["epoch", "epochs"], ["seconds", "seconds"]]),
    );
    loss.append(this.plot("loss"));
    const workers = this.card("rg-tall", "Workers");
    workers.firstChild.append(timeLegend());
    this.table = element("div", "rg-workers");
    this.table.dataset.testid = "worker-table";
    this.machine = element("div", "rg-machine");
    this.events = element("ul", "rg-events");
    this.events.setAttribute("aria-label", "last events");
    workers.append(this.table, this.events, this.machine);
    const speed = this.card("", "Throughput");
    speed.append(this.plot("speed"));
    const cpu = this.card("", "CPU a worker");
    cpu.append(this.plot("cpu"));
    const memory = this.card("", "Memory a worker");
    memory.append(this.plot("memory"));
    const log = this.card("rg-full", "Log");
    this.log = element("pre", "rg-log");
    this.log.tabIndex = 0;
    this.log.setAttribute("aria-label", "last lines of the run's log");
    this.log.dataset.testid = "run-log";
    log.append(this.log);
    grid.append(loss, workers, speed, cpu, memory, log);
    return grid;
  }

  card(className, title) {
    const card = element("section", `rg-card ${className}`);
    const head = element("div", "rg-head");
    head.append(element("h3", "", title));
    card.append(head);
    return card;
  }

  plot(name) {
    const node = element("div", "rg-plot");
    node.dataset.testid = `plot-${name}`;
    node.setAttribute("role", "group");
    this.plots[name] = node;
    return node;
  }

  choice(option, entries) {
    const group = element("div", "rg-choice");
    group.setAttribute("role", "group");
    for (const [value, label] of entries) {
      const button = element("button", "", label);
      button.type = "button";
      button.onclick = () => {
        this.options[option] = value;
        mark();
        this.drawn = {};
        this.draw();
      };
      button.dataset.value = value;
      group.append(button);
    }
    const mark = () => {
      for (const button of group.children) {
        button.setAttribute("aria-pressed", String(button.dataset.value === this.options[option]));
      }
    };
    mark();
    return group;
  }

  // ---- drawing ------------------------------------------------------------------------------

  draw() {
    if (!this.status) return;
    this.drawTiles();
    this.drawProgress();
    this.drawWorkers();
    this.drawLog();
    loadPlotly()
      .then((Plotly) => !this.destroyed && this.drawPlots(Plotly))
      .catch(() => {});
  }

  drawTiles() {
    const { status, tiles, history } = this;
    const found = status.evaluation;
    const points = history.points;
    set(tiles.loss, scientific(found?.train_loss ?? status.loss), 
      found ? `RMSE ${short(found.train_rmse)}${gapText(found, status)}` : "");
    set(
      tiles.r2,
      found?.validation_r2 == null ? "–" : found.validation_r2.toFixed(4),
      found?.validation_rmse == null ? (status.step && !status.terminal ? "first score soon" : "") : `RMSE ${short(found.validation_rmse)}`,
    );
    // At the end the speed of the last second says little: then that of the whole training.
    const average = status.terminal && status.rows && status.elapsed > 0;
    const speed = average ? status.rows / status.elapsed : status.rows_per_second;
    const rows = status.rows ? `${short(status.rows)} rows in all` : "";
    set(tiles.speed, speedText(speed), average ? `mean over ${short(status.rows)} rows` : rows);
    const epoch = Math.min(Math.floor(status.epoch), status.epochs ?? Infinity);
    set(
      tiles.epoch,
      status.epochs ? `${whole(epoch)} / ${whole(status.epochs)}` : status.step ? whole(epoch) : "–",
      status.learning_rate ? `learning rate ${short(status.learning_rate)}` : "",
    );
    set(tiles.time, status.step ? clock(status.elapsed) : "–", this.timeNote());
    drawSpark(tiles.loss.spark, history.evaluations.train_loss.length > 2
      ? history.evaluations.train_loss : points.loss, true);
    drawSpark(tiles.r2.spark, history.evaluations.validation_r2, false);
    drawSpark(tiles.speed.spark, points.rows_per_second, false);
  }

  timeNote() {
    const { status } = this;
    if (status.terminal) return "in training";
    if (status.eta == null) return status.state === "paused" ? "paused" : "";
    return `about ${clock(status.eta)} left`;
  }

  drawProgress() {
    const { status } = this;
    const share = Math.max(0, Math.min(1, status.progress));
    this.bar.style.width = `${(100 * share).toFixed(1)}%`;
    this.bar.classList.toggle("rg-idle", status.state !== "running");
    this.track.setAttribute("aria-valuenow", String(Math.round(100 * share)));
    const early = status.state === "finished" && status.step < status.total_steps;
    const unit = status.exact ? "Row" : "Step";
    const steps = early
      ? `Ended after step ${whole(status.step)}; ${whole(status.total_steps)} were allowed`
      : status.total_steps
        ? `${unit} ${whole(status.step)} of ${whole(status.total_steps)}`
        : `${unit} ${whole(status.step)}`;
    const texts = {
      queued: "Waiting in the queue",
      starting: status.message || "Reading and preparing the data",
    };
    this.progressText.textContent = texts[status.state] || steps;
    this.progressText.dataset.step = status.step;
    // A run that ends by itself has no share that is done, until it has ended.
    const open = status.state === "running" && !status.total_steps;
    this.progressTime.textContent = open ? "until it converges" : `${Math.round(100 * share)} %`;
  }

  drawWorkers() {
    const rows = this.workers || [];
    if (!rows.length) {
      const text = this.status.terminal || this.status.workers === 0
        ? "No worker processes were recorded." : "Workers start when the data are ready.";
      this.table.replaceChildren(element("p", "rg-empty", text));
      this.tableKey = "";
      return;
    }
    const key = rows.map((row) => row.rank).join();
    if (key !== this.tableKey) {
      this.table.replaceChildren(...rows.map(() => workerNode()));
      this.tableKey = key;
    }
    rows.forEach((row, at) => fillWorker(this.table.children[at], row, this.status));
    this.drawMachine();
    this.drawEvents();
  }

  drawEvents() {
    const room = Math.max(2, 7 - 2 * (this.workers || []).length);
    // Of the checkpoints, which come every few seconds, only the last is news.
    const { events } = this.history;
    const checkpoint = events.findLast((event) => event.kind === "checkpoint");
    const last = events
      .filter((event) => event.kind !== "checkpoint" || event === checkpoint)
      .slice(-room);
    const key = last.map((event) => event.id).join();
    if (this.events.dataset.key === key) return;
    this.events.dataset.key = key;
    this.events.replaceChildren(...last.map((event) => {
      const item = element("li", `rg-event rg-${event.kind}`);
      item.append(element("time", "", clock(event.seconds)), event.message || event.kind);
      return item;
    }));
  }

  drawMachine() {
    const { machine } = this.history;
    const at = machine.seconds.length - 1;
    if (at < 0) return;
    const memory = `${bytes(machine.memory_used[at])} of ${bytes(machine.memory_total[at])}`;
    const when = this.status.terminal ? "Machine, at the end" : "Machine";
    const cpu = machine.cpu_percent[at] == null ? "–" : `${Math.round(machine.cpu_percent[at])} %`;
    this.machine.textContent = `${when}: CPU ${cpu}, memory ${memory}`;
  }

  drawLog() {
    if (!this.newLog) return;
    const follow = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 12;
    this.log.textContent = this.history.log.join("\n") || "Nothing was logged yet.";
    if (follow) this.log.scrollTop = this.log.scrollHeight;
    this.newLog = false;
  }

  drawPlots(Plotly) {
    const theme = readTheme(this.root);
    this.theme = JSON.stringify(theme);
    this.react(Plotly, "loss", theme, () => this.lossFigure(theme));
    this.react(Plotly, "speed", theme, () => this.speedFigure(theme));
    this.react(Plotly, "cpu", theme, () => this.workerFigure(theme, "cpu_percent", 1, "%"));
    this.react(Plotly, "memory", theme, () => this.workerFigure(theme, "memory_bytes", 1e6, "MB"));
  }

  react(Plotly, name, theme, figure) {
    const { points, evaluations, workers } = this.history;
    const length = name === "loss" ? [points.step.length, points.step.at(-1), evaluations.step.length]
      : name === "speed" ? [points.step.length, points.step.at(-1)]
      : [workers.rank.length, workers.seconds.at(-1)];
    const key = [...length, this.theme, this.status.terminal, this.status.optimum, ...Object.values(this.options)].join();
    if (this.drawn[name] === key) return;
    this.drawn[name] = key;
    const exact = name === "loss" && this.status.exact;
    const byStep = name === "loss" || name === "speed";
    const empty = exact || !(byStep ? points.step : workers.rank).length;
    const { data, layout, label } = empty ? emptyFigure(theme, this.status) : figure();
    this.plots[name].setAttribute("aria-label", label);
    Plotly.react(this.plots[name], data, baseLayout(theme, layout), PLOT_CONFIG);
  }

  lossFigure(theme) {
    const { points, evaluations } = this.history;
    const { axis, scale } = this.options;
    const known = this.status.optimum != null && !this.status.exact;
    this.showChoice.style.display = known ? "" : "none";
    if (known && this.options.show === "gap") return this.gapFigure(theme);
    const best = bestOf(evaluations.validation_loss);
    const line = (name, source, values, style, extra) => ({
      type: "scatter", mode: "lines", name, x: source[axis], y: values,
      line: style, hovertemplate: "%{y:.5g}", ...extra,
    });
    const blue = theme.dark ? "#4C82FF" : COLOURS[0];
    const data = [
      line("each batch", points, points.loss, { color: fade(blue, 0.35), width: 1 }),
      line("training", evaluations, evaluations.train_loss, { color: blue, width: 2.2 },
        { mode: evaluations.step.length < 40 ? "lines+markers" : "lines", marker: { size: 5 } }),
      line("validation", evaluations, evaluations.validation_loss, { color: COLOURS[1], width: 2.2, dash: "dash" },
        { mode: evaluations.step.length < 40 ? "lines+markers" : "lines", marker: { size: 5, symbol: "diamond" } }),
      {
        type: "scatter", mode: "markers", name: "best", hoverinfo: "skip",
        x: best < 0 ? [] : [evaluations[axis][best]],
        y: best < 0 ? [] : [evaluations.validation_loss[best]],
        marker: { symbol: "star", size: 12, color: COLOURS[1], line: { color: theme.background, width: 1 } },
      },
    ];
    // The loss without the penalty at the optimum: what the training curve comes to.
    const optimum = this.status.optimal_loss;
    if (known && optimum > 0) {
      const ends = [points[axis][0], points[axis].at(-1)];
      data.push(line("exact optimum", { [axis]: ends }, [optimum, optimum],
        { color: fade(theme.text, 0.55), width: 1.5, dash: "dot" }));
    }
    return {
      data,
      label: `Loss by ${AXIS_TITLES[axis]}. Training ${short(evaluations.train_loss.at(-1))}, ` +
        `validation ${short(evaluations.validation_loss.at(-1))}.`,
      layout: {
        uirevision: `${axis}-${scale}`,
        margin: { l: 12, r: 12, t: 8, b: 30 },
        xaxis: {
          title: { text: AXIS_TITLES[axis] },
          unifiedhovertitle: { text: `${AXIS_TITLES[axis]} %{x:${axis === "step" ? ",d" : ".4~g"}}` },
        },
        yaxis: {
          type: scale, title: { text: "½ · mean squared error" },
          exponentformat: "power",
          ...(scale === "log" ? logTicks([evaluations.train_loss, points.loss]) : {}),
        },
      },
    };
  }

  gapFigure(theme) {
    const { evaluations } = this.history;
    const { axis, scale } = this.options;
    const { optimum } = this.status;
    // Rounding may put the last steps a hair below the optimum: a log axis has no room there.
    const gaps = evaluations.train_objective.map((value) =>
      value == null || value <= optimum ? null : value - optimum);
    const blue = theme.dark ? "#4C82FF" : COLOURS[0];
    return {
      data: [{
        type: "scatter", mode: "lines+markers", name: "gap to the optimum",
        x: evaluations[axis], y: gaps, line: { color: blue, width: 2.2 }, marker: { size: 4 },
        hovertemplate: "%{y:.4g}<extra></extra>",
      }],
      label: `Gap to the exact optimum, now ${short(gaps.at(-1))}.`,
      layout: {
        uirevision: `gap-${axis}-${scale}`,
        margin: { l: 12, r: 12, t: 8, b: 30 },
        showlegend: false,
        xaxis: { title: { text: AXIS_TITLES[axis] } },
        yaxis: {
          type: scale, title: { text: "objective − optimum" }, exponentformat: "power",
          ...(scale === "log" ? logTicks([gaps]) : {}),
        },
      },
    };
  }

  speedFigure(theme) {
    const { points } = this.history;
    const blue = theme.dark ? "#4C82FF" : COLOURS[0];
    return {
      data: [{
        type: "scatter", mode: "lines", name: "rows/s", x: points.seconds, y: points.rows_per_second,
        line: { color: blue, width: 1.8 }, fill: "tozeroy", fillcolor: fade(blue, 0.1),
        hovertemplate: "%{y:.3s} rows/s<extra></extra>",
      }],
      label: `Rows a second over time, now ${speedText(points.rows_per_second.at(-1))}.`,
      layout: {
        showlegend: false,
        xaxis: { title: { text: "seconds in training" } },
        yaxis: { rangemode: "tozero", tickformat: "~s", title: { text: "rows/s" } },
      },
    };
  }

  workerFigure(theme, column, unit, name) {
    const series = new Map();
    const { workers } = this.history;
    workers.rank.forEach((rank, at) => {
      if (!series.has(rank)) series.set(rank, { x: [], y: [] });
      const one = series.get(rank);
      one.x.push(workers.seconds[at]);
      one.y.push(workers[column][at] === null ? null : workers[column][at] / unit);
    });
    const ranks = [...series.keys()].sort((a, b) => a - b);
    return {
      data: ranks.map((rank, at) => ({
        type: "scatter", mode: "lines", name: `worker ${rank}`, ...series.get(rank),
        line: {
          color: at % 6 === 0 && theme.dark ? "#4C82FF" : COLOURS[at % 6],
          dash: DASHES[Math.floor(at / 1) % 6], width: 1.8,
        },
        hovertemplate: `%{y:.0f} ${name}`,
      })),
      label: `${name === "%" ? "CPU" : "Memory"} of ${ranks.length} workers over time.`,
      layout: {
        showlegend: ranks.length > 1,
        xaxis: { title: { text: "seconds in training" } },
        yaxis: { rangemode: "tozero", title: { text: name } },
      },
    };
  }

  followTheme() {
    if (document.hidden || !window.Plotly || !this.theme) return;
    if (JSON.stringify(readTheme(this.root)) !== this.theme) this.drawPlots(window.Plotly);
  }

  resize() {
    if (!window.Plotly) return;
    for (const node of Object.values(this.plots)) {
      if (node.data && node.offsetWidth) window.Plotly.Plots.resize(node);
    }
  }
}

const AXIS_TITLES = { step: "step", epoch: "epoch", seconds: "seconds in training" };

/** A chart that has no points yet says so instead of drawing axes. */
function emptyFigure(theme, status) {
  const text = status.exact
    ? "The optimum comes from one pass over the rows: there is no curve to watch."
    : status.terminal ? "This run recorded no figures." : "The first points come when the training starts.";
  return {
    data: [],
    label: text,
    layout: {
      xaxis: { visible: false },
      yaxis: { visible: false },
      annotations: [{
        text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5,
        font: { size: 12, color: fade(theme.text, 0.68) },
      }],
    },
  };
}

function emptyHistory() {
  return {
    points: { step: [], epoch: [], seconds: [], rows: [], loss: [], rows_per_second: [] },
    evaluations: {
      step: [], epoch: [], seconds: [], train_loss: [], train_objective: [], validation_loss: [], validation_r2: [],
    },
    workers: { seconds: [], rank: [], cpu_percent: [], memory_bytes: [] },
    machine: { seconds: [], cpu_percent: [], memory_used: [], memory_total: [] },
    events: [],
    log: [],
  };
}

/** Add the new columns to the old; the arrays are made anew, which tells Plotly they changed. */
function append(history, fresh) {
  for (const name of Object.keys(history)) history[name] = history[name].concat(fresh[name]);
}

function bestOf(values) {
  let best = -1;
  values.forEach((value, at) => {
    if (value !== null && (best < 0 || value < values[best])) best = at;
  });
  return values.length > 1 ? best : -1;
}

/** Ticks of a log axis: each digit where it spans little, then 1, 2 and 5, then powers of ten. */
function logTicks(lists) {
  let low = Infinity;
  let high = 0;
  for (const list of lists) {
    for (const value of list) {
      if (value > 0) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
  }
  const span = high / low;
  if (!(span < 100)) return { dtick: 1 };
  return { dtick: span < 6 ? "D1" : "D2", tickformat: "~g" };
}

/** How far the objective still is above the exact optimum, as a share of it, or of the target's
 * variance where the optimum is a perfect fit: nothing is a share of zero. */
function gapText(found, { optimum, gap_unit: unit }) {
  if (optimum == null || !(unit > 0) || found.train_objective == null) return "";
  const percent = 100 * Math.max(0, (found.train_objective - optimum) / unit);
  const of = unit === optimum ? "" : " of the variance";
  return ` · gap ${percent < 1e-4 ? "0" : short(Number(percent.toPrecision(2)))} %${of}`;
}

function speedText(value) {
  if (value == null) return "–";
  return value >= 1e4 && value < 1e6 ? `${Math.round(value / 1000)} k rows/s` : `${short(value)} rows/s`;
}

function set(tile, value, note) {
  if (tile.value.textContent !== value) tile.value.textContent = value;
  if (tile.note.textContent !== note) tile.note.textContent = note || " ";
}

function sparkNode() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 28");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("rg-spark");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(path);
  return svg;
}

function drawSpark(svg, values, logarithmic) {
  const stride = Math.max(1, Math.floor(values.length / 60));
  const picked = values
    .filter((value, at) => value !== null && (!logarithmic || value > 0) && at % stride === 0)
    .map((value) => (logarithmic ? Math.log(value) : value));
  if (picked.length < 2) return svg.firstChild.setAttribute("d", "");
  const low = Math.min(...picked);
  const span = Math.max(...picked) - low || 1;
  const at = (value, index) =>
    `${((100 * index) / (picked.length - 1)).toFixed(1)},${(26 - (24 * (value - low)) / span).toFixed(1)}`;
  return svg.firstChild.setAttribute("d", `M${picked.map(at).join("L")}`);
}

/** What the three parts of a worker's time bar mean. */
function timeLegend() {
  const legend = element("span", "rg-legend");
  for (const [name, word] of [["compute", "compute"], ["wait", "wait"], ["send", "communicate"]]) {
    const entry = element("span", "");
    entry.append(element("i", `rg-${name}`), word);
    legend.append(entry);
  }
  return legend;
}

function workerNode() {
  const node = element("div", "rg-worker");
  node.innerHTML =
    '<div class="rg-line"><span class="rg-rank"></span><span class="rg-state"></span>' +
    '<span class="rg-cpu"></span><span class="rg-memory"></span><span class="rg-rows"></span></div>' +
    '<div class="rg-split"><i class="rg-compute"></i><i class="rg-wait"></i><i class="rg-send"></i></div>' +
    '<div class="rg-shares"></div>';
  return node;
}

function fillWorker(node, row, status) {
  const put = (name, text) => {
    const target = node.querySelector(name);
    if (target.textContent !== text) target.textContent = text;
  };
  const shown = status.terminal ? "ended" : row.state;
  const [symbol, word] = STATE_SYMBOLS[shown] || ["■", shown];
  node.dataset.state = shown;
  node.dataset.rank = row.rank;
  put(".rg-rank", `${row.rank}`);
  node.querySelector(".rg-rank").title = `rank ${row.rank}, incarnation ${row.incarnation}`;
  put(".rg-state", `${symbol} ${word}`);
  put(".rg-cpu", `CPU ${row.cpu_percent == null ? "–" : Math.round(row.cpu_percent)} %`);
  put(".rg-memory", bytes(row.memory_bytes));
  put(".rg-rows", `${short(row.rows)} rows`);
  const total = row.compute + row.wait + row.communicate || 1;
  const share = (value) => `${Math.round((100 * value) / total)} %`;
  for (const [name, value] of [["compute", row.compute], ["wait", row.wait], ["send", row.communicate]]) {
    node.querySelector(`.rg-${name}`).style.width = `${(100 * value) / total}%`;
  }
  put(
    ".rg-shares",
    `pid ${row.pid} · compute ${share(row.compute)} · wait ${share(row.wait)} · communicate ${share(row.communicate)}`,
  );
}
