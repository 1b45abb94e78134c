// The live view of a run: tiles, progress, charts, worker table, log.
//
// It asks /api/runs/<id>/live?since=<cursor> for news and draws them into the same nodes with
// Plotly.react, so that zoom, hover and hidden legend entries survive. How the charts are to be seen
// stands in the page's address, so that a link shows the same.

const RUNNING_PERIOD = 700;
const MAX_LOG_LINES = 400;
const MAX_EVENTS = 1000;
const KILL_PATIENCE = 60_000; // until a worker that was not replaced can be killed again

// How the charts are seen: the values there are, the first of them unless the address says another.
const VIEWS = {
  chart: ["loss", "gap"],
  scale: ["log", "linear"],
  axis: ["step", "epoch", "seconds"],
  smooth: ["10", "1", "2", "5", "20", "50", "100", "200"],
};
const SPANS = [1, 2, 5, 10, 20, 50, 100, 200]; // points that a smoothed line is a mean over

const STATE_SYMBOLS = {
  compute: ["●", "computing"],
  wait: ["◐", "waiting"],
  communicate: ["▲", "sending"],
  starting: ["○", "starting"],
  paused: ["❚❚", "paused"],
  asleep: ["○", "resting"],
  dead: ["✕", "dead"],
};

class LiveView extends PolledView {
  constructor(parent, runId) {
    super(parent, runId, "", "live-view");
    this.cursor = "";
    this.tag = "";
    this.history = emptyHistory();
  }

  path() {
    return `live?${new URLSearchParams({ since: this.cursor, tag: this.tag })}`;
  }

  period() {
    return ["running", "starting"].includes(this.state) ? RUNNING_PERIOD : super.period();
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
    this.state = this.status.state;
    this.thin();
    this.draw();
    this.report(update.run.stands);
  }

  /** Keep the traces within their size. */
  thin() {
    const { history } = this;
    history.points = thinned(history.points, "loss");
    history.evaluations = thinned(history.evaluations, "validation_loss");
    history.workers = thinned(history.workers, "cpu_percent", "rank");
    history.machine = thinned(history.machine, "cpu_percent");
    if (history.events.length > MAX_EVENTS) {
      history.events = thinnedEvents(history.events).slice(-MAX_EVENTS);
    }
  }

  /** What a figure is drawn from. */
  scene(theme) {
    const { history, status, view } = this;
    const options = {
      show: view.chart, scale: view.scale, axis: view.axis, smooth: Number(view.smooth), hidden: this.hiddenMarks,
    };
    return { history, status, options, theme };
  }

  // ---- building -----------------------------------------------------------------------------

  build() {
    this.view = viewOfAddress();
    this.hiddenMarks = new Set();
    this.killed = new Map(); // rank → process that was killed here, and when
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
    this.root.append(tiles, this.buildProgress(), this.buildGrid());
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
    const grid = element("div", "rg-grid");
    const loss = this.card("rg-wide rg-tall", "Loss",
      "How far predictions are from the truth: half the mean squared error. Lower is better. Training: the rows it learns from; validation: rows held out.");
    this.showChoice = this.choice("chart", "what is shown", [["loss", "loss"], ["gap", "gap"]]);
    this.showChoice.title = "Gap: how far the loss with its penalty is above the exact optimum";
    loss.firstChild.append(
      this.buildSmoothing(),
      this.showChoice,
      this.choice("scale", "scale", [["log", "log"], ["linear", "linear"]]),
      this.choice("axis", "along", [["step", "steps"], ["epoch", "epochs"], ["seconds", "seconds"]]),
    );
    this.marks = element("div", "rg-marks");
    this.marks.setAttribute("role", "group");
    this.marks.setAttribute("aria-label", "marks on the charts");
    loss.append(this.plot("loss"), this.marks);
    const workers = this.card("rg-tall", "Workers",
      "The processes that share the work: each computes gradients from its part of the rows.");
    workers.firstChild.append(timeLegend());
    this.table = element("div", "rg-workers");
    this.table.dataset.testid = "worker-table";
    this.machine = element("div", "rg-machine");
    this.events = element("ul", "rg-events");
    this.events.setAttribute("aria-label", "last events");
    workers.append(this.table, this.events, this.machine);
    const speed = this.card("", "Throughput", "Training rows processed a second by all workers.");
    speed.append(this.plot("speed"));
    const rate = this.card("rg-wide rg-of-steps", "Learning rate and gradient norm",
      "Learning rate: how far each step goes. Gradient norm: how steep the loss is there; near the optimum it is small.");
    rate.append(this.plot("rate"));
    const time = this.card("rg-spent", "Where the time went",
      "Reading and preparing the file, starting workers, training; and what the workers did meanwhile.");
    this.times = element("div", "rg-times");
    this.times.dataset.testid = "time-breakdown";
    time.append(this.times);
    const cpu = this.card("", "CPU a worker", "100 % is one whole core.");
    cpu.append(this.plot("cpu"));
    const memory = this.card("", "Memory a worker", "Resident memory of each process; what is shared counts in each.");
    memory.append(this.plot("memory"));
    const log = this.card("rg-full", "Log");
    const all = element("a", "rg-link", "All lines");
    all.href = `/logs?${new URLSearchParams({ run: this.runId })}`;
    log.firstChild.append(all);
    this.log = element("pre", "rg-log");
    this.log.tabIndex = 0;
    this.log.setAttribute("aria-label", "last lines of the run's log");
    this.log.dataset.testid = "run-log";
    log.append(this.log);
    grid.append(loss, workers, speed, rate, cpu, memory, time, log);
    return grid;
  }

  /** A slider: over how many points the loss of single batches is smoothed. */
  buildSmoothing() {
    const box = element("label", "rg-smooth", "smoothing");
    box.title = "The loss of each batch as a mean over about so many points, the newest counting most; " +
      "the faint line under it is the loss as it was.";
    const slider = element("input");
    slider.type = "range";
    slider.min = 0;
    slider.max = SPANS.length - 1;
    slider.value = SPANS.indexOf(Number(this.view.smooth));
    const told = element("output");
    const tell = () => {
      const span = SPANS[slider.value];
      told.textContent = span === 1 ? "off" : `${span} points`;
      slider.setAttribute("aria-valuetext", told.textContent);
    };
    slider.oninput = () => {
      tell();
      this.see("smooth", String(SPANS[slider.value]));
    };
    tell();
    box.append(slider, told);
    this.smoothing = box;
    return box;
  }

  /** Change how the charts are seen, here and in the address. */
  see(name, value) {
    this.view[name] = value;
    keepInAddress(this.view);
    this.draw();
  }

  choice(option, meaning, entries) {
    const group = element("div", "rg-choice");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", meaning);
    for (const [value, label] of entries) {
      const button = element("button", "", label);
      button.type = "button";
      button.onclick = () => {
        this.see(option, value);
        mark();
      };
      button.dataset.value = value;
      group.append(button);
    }
    const mark = () => {
      for (const button of group.children) {
        button.setAttribute("aria-pressed", String(button.dataset.value === this.view[option]));
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
    this.drawTimes();
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
    set(tiles.speed, status.state === "paused" ? "paused" : speedText(speed), average ? `mean over ${short(status.rows)} rows` : rows);
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
      this.table.replaceChildren(...rows.map((row) => workerNode(() => this.kill(row.rank))));
      this.tableKey = key;
    }
    rows.forEach((row, at) => this.fillWorker(this.table.children[at], row));
    this.drawMachine();
    this.drawEvents();
  }

  fillWorker(node, row) {
    const killed = this.killed.get(row.rank);
    const late = killed && Date.now() - killed.when > KILL_PATIENCE; // the run has ended, or crashed
    if (killed && (killed.pid !== row.pid || late)) this.killed.delete(row.rank);
    fillWorker(node, row, this.status, this.killed.has(row.rank));
  }

  /** Kill a worker, as a fault would: another takes its place. */
  async kill(rank) {
    const row = this.workers.find((each) => each.rank === rank);
    if (!row || this.killed.has(rank)) return;
    const node = this.table.querySelector(`[data-rank="${rank}"]`);
    this.killed.set(rank, { pid: row.pid, when: Date.now() });
    this.fillWorker(node, row);
    try {
      const path = `/api/runs/${this.runId}/workers/${rank}/kill?incarnation=${row.incarnation}`;
      const answer = await fetch(path, { method: "POST", headers: { "X-Regatta-Request": "kill" } });
      if (!answer.ok) throw new Error((await answer.json()).error.message);
    } catch (error) {
      this.killed.delete(rank);
      node.querySelector(".rg-told").textContent = error.message;
    }
  }

  drawTimes() {
    const parts = timeParts(this.status, this.workers || []);
    const all = parts.reduce((total, [, seconds]) => total + seconds, 0);
    if (!(all > 0)) {
      this.times.dataset.key = "";
      this.times.replaceChildren(element("p", "rg-empty", "Nothing has taken time yet."));
      return;
    }
    const key = parts.map(([name]) => name).join();
    if (this.times.dataset.key !== key) {
      this.times.dataset.key = key;
      this.times.replaceChildren(...parts.map(timeNode));
    }
    parts.forEach(([, seconds], at) => {
      const [, track, told] = this.times.children[at].children;
      track.firstChild.style.width = `${(100 * seconds) / all}%`;
      const share = (100 * seconds) / all;
      told.textContent = `${seconds < 0.95 ? `${Math.round(1000 * seconds)} ms` : clock(seconds)} · ${share < 0.95 && share > 0 ? share.toFixed(1) : Math.round(share)} %`;
    });
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
    const scene = this.scene(readTheme(this.root));
    this.theme = JSON.stringify(scene.theme);
    this.root.classList.toggle("rg-exact", this.status.exact);
    const known = knowsOptimum(this.status);
    this.showChoice.style.display = known ? "" : "none";
    this.smoothing.style.display = known && scene.options.show === "gap" ? "none" : "";
    this.drawMarks(scene);
    this.react(Plotly, "loss", scene, lossFigure);
    this.react(Plotly, "speed", scene, speedFigure);
    this.react(Plotly, "rate", scene, rateFigure);
    this.react(Plotly, "cpu", scene, (each) => workerFigure(each, "cpu_percent", 1, "%"));
    this.react(Plotly, "memory", scene, (each) => workerFigure(each, "memory_bytes", 1e6, "MB"));
  }

  /** The legend of the marks. */
  drawMarks({ history, theme }) {
    const counts = markCounts(history.events);
    const key = [this.theme, ...counts.map(([kind]) => kind)].join();
    if (this.marks.dataset.key !== key) {
      this.marks.dataset.key = key;
      this.marks.replaceChildren(...counts.map(([kind]) => markEntry(kind, theme)));
      for (const button of this.marks.children) button.onclick = () => this.toggleMark(button.dataset.kind);
    }
    counts.forEach(([kind, times], at) => {
      const button = this.marks.children[at];
      button.setAttribute("aria-pressed", String(!this.hiddenMarks.has(kind)));
      button.lastChild.textContent = whole(times);
    });
  }

  toggleMark(kind) {
    if (!this.hiddenMarks.delete(kind)) this.hiddenMarks.add(kind);
    this.draw();
  }

  react(Plotly, name, scene, figure) {
    const { points, evaluations, workers, events } = this.history;
    const ofWorkers = name === "cpu" || name === "memory";
    const seen = ofWorkers ? [workers.rank.length, workers.seconds.at(-1)]
      : [points.step.length, points.step.at(-1), evaluations.step.length, events.length];
    const { hidden, ...options } = scene.options;
    const chosen = ofWorkers ? [] : [...Object.values(options), ...hidden];
    const key = [...seen, this.theme, this.status.terminal, this.status.optimum, ...chosen].join();
    if (this.drawn[name] === key) return;
    this.drawn[name] = key;
    const exact = this.status.exact && (name === "loss" || name === "rate");
    const empty = exact || !(ofWorkers ? workers.rank : points.step).length;
    const { data, layout, label } = (empty ? emptyFigure : figure)(scene);
    this.plots[name].setAttribute("aria-label", label);
    Plotly.react(this.plots[name], data, baseLayout(scene.theme, layout), PLOT_CONFIG);
  }
}

export default mounted(LiveView);

/** How far the objective still is above the exact optimum, as a share of it, or of the target's
 * variance where the optimum is a perfect fit: nothing is a share of zero. */
function gapText(found, { optimum, gap_unit: unit }) {
  if (optimum == null || !(unit > 0) || found.train_objective == null) return "";
  const percent = 100 * Math.max(0, (found.train_objective - optimum) / unit);
  const of = unit === optimum ? "" : " of the variance";
  const told = percent === 0 ? "0" : percent < 0.001 ? "< 0.001" : short(Number(percent.toPrecision(2)));
  return ` · gap ${told} %${of}`;
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

/** How the charts are to be seen, as the address says. */
function viewOfAddress() {
  const query = new URLSearchParams(location.search);
  const view = {};
  for (const [name, values] of Object.entries(VIEWS)) {
    view[name] = values.includes(query.get(name)) ? query.get(name) : values[0];
  }
  return view;
}

/** Write into the address what differs from how the charts are seen at first. */
function keepInAddress(view) {
  const address = new URL(location.href);
  for (const [name, values] of Object.entries(VIEWS)) {
    if (view[name] === values[0]) address.searchParams.delete(name);
    else address.searchParams.set(name, view[name]);
  }
  history.replaceState(history.state, "", address);
}

function timeNode([name, , help]) {
  const node = element("div", "rg-time");
  node.title = help;
  const track = element("span", "rg-split");
  track.append(element("i", `rg-part-${name}`));
  track.setAttribute("aria-hidden", "true");
  node.append(element("span", "", name), track, element("span", "rg-time-told"));
  return node;
}

function workerNode(kill) {
  const node = element("div", "rg-worker");
  node.innerHTML =
    '<div class="rg-line"><span class="rg-rank"></span><span class="rg-state"></span>' +
    '<span class="rg-cpu"></span><span class="rg-memory"></span><span class="rg-rows"></span></div>' +
    '<div class="rg-split"><i class="rg-compute"></i><i class="rg-wait"></i><i class="rg-send"></i></div>' +
    '<div class="rg-foot"><span class="rg-shares"></span><span class="rg-told" role="status"></span>' +
    '<button type="button" class="rg-kill">Kill</button></div>';
  const button = node.querySelector(".rg-kill");
  button.title = "Kill this worker as a fault would, and watch another take its place";
  button.onclick = kill;
  return node;
}

function fillWorker(node, row, status, killed) {
  const put = (name, text) => {
    const target = node.querySelector(name);
    if (target.textContent !== text) target.textContent = text;
  };
  const shown = status.terminal ? "ended" : row.state;
  const [symbol, word] = STATE_SYMBOLS[shown] || ["■", shown];
  node.dataset.state = shown;
  node.dataset.rank = row.rank;
  const button = node.querySelector(".rg-kill");
  button.hidden = !["running", "paused"].includes(status.state);
  button.disabled = killed;
  button.setAttribute("aria-label", `Kill worker ${row.rank}`);
  if (killed || node.querySelector(".rg-told").dataset.killed) {
    put(".rg-told", killed ? "killed; being replaced" : "");
    node.querySelector(".rg-told").dataset.killed = killed ? "yes" : "";
  }
  node.querySelector(".rg-shares").hidden = killed;
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
