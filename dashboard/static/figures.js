// The charts of a run: what Plotly draws and what a screen reader says, from the figures so far.
//
// Each takes a scene { history, status, options, theme } and gives { data, layout, label }. A trace
// has a `uid`: what was hidden in the legend stays hidden when others come or go.

const MAX_POINTS = 1500; // of a trace
const MAX_MARKS = 30; // of a kind that comes often
const MAX_LINES = 40;

const AXIS_TITLES = { step: "step", epoch: "epoch", seconds: "seconds in training" };
const AXIS_UNITS = { step: "step", epoch: "epoch", seconds: "second" };

// Of the events those that leave a mark: what it is called, its symbol, its colour, whether a line
// goes up from it.
const MARKS = {
  rate_changed: ["learning rate changed", "diamond", "#BB0E8D", true],
  batch_changed: ["batch size changed", "square", "#BB0E8D", true],
  scaled: ["number of workers changed", "pentagon", "#155AFA", true],
  worker_died: ["worker died", "x", "#D0342C", true],
  worker_started: ["worker started", "triangle-up", "#47A48B", false],
  worker_slow: ["slow worker", "hourglass", "#DC7C00", false],
  paused: ["stood still", "line-ns", "text", false],
  resumed: ["went on", "triangle-right", "text", false],
  checkpoint: ["checkpoint", "circle-open", "quiet", false],
};

// Those of a small chart.
const RARE = Object.keys(MARKS).filter((kind) => kind !== "checkpoint");

// The symbols as Plotly draws them, for the legend: within 10 × 10 around the middle.
const SHAPES = {
  "diamond": "M0-5 5 0 0 5-5 0Z",
  "square": "M-4-4H4V4H-4Z",
  "pentagon": "M0-5 4.8-1.5 2.9 4H-2.9L-4.8-1.5Z",
  "x": "M-2.5-5 0-2.5 2.5-5 5-2.5 2.5 0 5 2.5 2.5 5 0 2.5-2.5 5-5 2.5-2.5 0-5-2.5Z",
  "triangle-up": "M0-5 5 4H-5Z",
  "hourglass": "M-4-5H4L-4 5H4Z",
  "line-ns": "M-1-5H1V5H-1Z",
  "triangle-right": "M-4-5 5 0-4 5Z",
  "circle-open": "M-3 0A3 3 0 1 1 3 0A3 3 0 1 1-3 0ZM-2 0A2 2 0 1 0 2 0A2 2 0 1 0-2 0Z",
};

function trainingBlue(theme) {
  return theme.dark ? "#4C82FF" : COLOURS[0];
}

function emptyHistory() {
  return {
    points: {
      step: [], epoch: [], seconds: [], rows: [], loss: [], rows_per_second: [],
      learning_rate: [], gradient_norm: [],
    },
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

/**
 * Columns with too many rows thinned to two thirds of the limit: equal stretches of time keep the
 * rows with their smallest and largest `value`. With `group` each group is thinned by itself.
 */
function thinned(columns, value, group) {
  const groups = new Map();
  columns.seconds.forEach((_, at) => {
    const name = group ? columns[group][at] : 0;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(at);
  });
  if (![...groups.values()].some((rows) => rows.length > MAX_POINTS)) return columns;
  const kept = [...groups.values()].flatMap((rows) => thinnedRows(columns, value, rows));
  kept.sort((a, b) => a - b);
  return Object.fromEntries(
    Object.entries(columns).map(([name, list]) => [name, kept.map((at) => list[at])]),
  );
}

function thinnedRows(columns, value, rows) {
  if (rows.length <= MAX_POINTS) return rows;
  const first = columns.seconds[rows[0]];
  const width = (columns.seconds[rows.at(-1)] - first) / (MAX_POINTS / 3) || 1;
  const kept = new Set([rows[0], rows.at(-1)]);
  let stretch = -1;
  let low = -1;
  let high = -1;
  const keep = () => low >= 0 && kept.add(low).add(high);
  for (const at of rows) {
    const number = columns[value][at];
    const place = Math.floor((columns.seconds[at] - first) / width);
    if (place !== stretch) {
      keep();
      [stretch, low, high] = [place, -1, -1];
    }
    if (number === null) continue;
    if (low < 0 || number < columns[value][low]) low = at;
    if (high < 0 || number > columns[value][high]) high = at;
  }
  keep();
  return [...kept];
}

/** Events that matter, and of those that come every few seconds so many that they can be told
 * apart: each says how many it stands for. */
function thinnedEvents(events) {
  const often = events.filter((event) => event.kind === "checkpoint");
  if (often.length <= MAX_MARKS) return events;
  const stride = Math.ceil(often.length / MAX_MARKS);
  const kept = new Map();
  often.forEach((event, at) => {
    if (at % stride !== stride - 1 && at !== often.length - 1) return;
    kept.set(event.id, { ...event, stands_for: (at % stride) + 1 });
  });
  return events
    .filter((event) => event.kind !== "checkpoint" || kept.has(event.id))
    .map((event) => kept.get(event.id) ?? event);
}

/** An exponential mean over about `span` points, unbiased at the beginning. */
function smoothed(values, span) {
  const keep = 1 - 1 / span;
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}

// ---- marks ------------------------------------------------------------------------------------

/** Where an event lies on an axis. Epochs are not written down with it: those of its step are. */
function placeOf(event, axis, points) {
  if (axis !== "epoch") return event[axis];
  const { step, epoch } = points;
  let [low, high] = [0, step.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (step[middle] < event.step) low = middle + 1;
    else high = middle;
  }
  return epoch[Math.min(low, step.length - 1)] ?? null;
}

/** The events as marks at the foot of a chart, on a second y axis from 0 to 1; a trace a kind. */
function markTraces({ history, theme, options }, axis, kinds = Object.keys(MARKS)) {
  const traces = [];
  const heights = new Map(); // of what happened after the same step one stands above the other
  const heightOf = ({ step }) => {
    heights.set(step, (heights.get(step) ?? -0.015) + 0.05);
    return Math.min(heights.get(step), 0.235);
  };
  // Workers that start before the training does are no news.
  const events = thinnedEvents(history.events).filter(isMark);
  for (const kind of kinds) {
    const [name, symbol, colour] = MARKS[kind];
    const mine = events.filter((event) => event.kind === kind);
    if (!mine.length || options.hidden.has(kind)) continue;
    const ink = markColour(colour, theme);
    traces.push({
      type: "scatter", mode: "markers", name, uid: `mark-${kind}`, yaxis: "y2",
      x: mine.map((event) => placeOf(event, axis, history.points)),
      y: mine.map(heightOf),
      text: mine.map(markText),
      hovertemplate: "%{text}<extra></extra>",
      marker: markOf(symbol, ink, theme),
      showlegend: false, // it has a legend of its own, under the chart
    });
  }
  return traces;
}

/** Whether an event leaves a mark. What comes before the training, as its first workers, does not. */
function isMark(event) {
  return event.kind in MARKS && event.seconds > 0;
}

/** How often each kind of mark was made: [kind, times]. */
function markCounts(events) {
  return Object.keys(MARKS)
    .map((kind) => [kind, events.filter((event) => event.kind === kind && isMark(event)).length])
    .filter(([, times]) => times);
}

/** One entry of the legend of the marks: a button that hides its kind and shows it again. */
function markEntry(kind, theme) {
  const [name, symbol, colour] = MARKS[kind];
  const button = element("button", "rg-mark");
  button.type = "button";
  button.dataset.kind = kind;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "-6 -6 12 12");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[symbol]);
  path.setAttribute("fill", markColour(colour, theme));
  svg.append(path);
  button.append(svg, element("span", "", name), element("span", "rg-times-told"));
  return button;
}

function markOf(symbol, ink, theme) {
  if (symbol.endsWith("open")) return { symbol, size: 6, color: ink, line: { color: ink, width: 1.2 } };
  const line = symbol.startsWith("line") ? { color: ink, width: 2.5 } : { color: theme.background, width: 1 };
  return { symbol, size: 9, color: ink, line };
}

function markColour(colour, theme) {
  if (colour === "text") return fade(theme.text, 0.85);
  if (colour === "quiet") return fade(theme.text, 0.5);
  if (!theme.dark) return colour;
  return { "#155AFA": "#4C82FF", "#BB0E8D": "#E25BBE", "#D0342C": "#FF7369" }[colour] ?? colour;
}

function markText(event) {
  const more = event.stands_for > 1 ? ` (and ${event.stands_for - 1} before)` : "";
  // Plotly reads some markup in what it shows: a message is none.
  return (event.message || event.kind).replaceAll("&", "&amp;").replaceAll("<", "&lt;") + more;
}

/** Thin lines up from the marks that change what the curves mean. */
function markLines({ history, theme, options }, axis) {
  return history.events
    .filter((event) => isMark(event) && MARKS[event.kind][3] && !options.hidden.has(event.kind))
    .slice(-MAX_LINES)
    .map((event) => {
      const x = placeOf(event, axis, history.points);
      return {
        type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, layer: "below",
        line: { color: fade(markColour(MARKS[event.kind][2], theme), 0.55), width: 1, dash: "dot" },
      };
    });
}

const MARKS_AXIS = {
  overlaying: "y", range: [0, 1], fixedrange: true, visible: false, autorange: false,
};

/** What happened, in words: "1 worker died, 3 checkpoints". */
function toldEvents(events) {
  const told = markCounts(events).map(([kind, times]) =>
    `${MARKS[kind][0]} ${times === 1 ? "once" : `${times} times`}`);
  return told.length ? ` Marked: ${told.join(", ")}.` : "";
}

// ---- figures ----------------------------------------------------------------------------------

function lossFigure(scene) {
  const { history, status, options, theme } = scene;
  if (knowsOptimum(status) && options.show === "gap") return gapFigure(scene);
  const { points, evaluations } = history;
  const { axis, scale, smooth } = options;
  const best = bestOf(evaluations.validation_loss);
  const few = evaluations.step.length < 40;
  const line = (name, source, values, style, extra) => ({
    type: "scatter", mode: "lines", name, uid: name, x: source[axis], y: values,
    line: style, hovertemplate: "%{y:.5g}", ...extra,
  });
  const blue = trainingBlue(theme);
  const data = [
    line("each batch", points, points.loss, { color: fade(blue, smooth > 1 ? 0.28 : 0.45), width: 1 },
      { mode: points.step.length < 3 ? "lines+markers" : "lines", marker: { size: 5, color: blue } }),
    line("training", evaluations, evaluations.train_loss, { color: blue, width: 2.2 },
      { mode: few ? "lines+markers" : "lines", marker: { size: 5 } }),
    line("validation", evaluations, evaluations.validation_loss, { color: COLOURS[1], width: 2.2, dash: "dash" },
      { mode: few ? "lines+markers" : "lines", marker: { size: 5, symbol: "diamond" } }),
    {
      type: "scatter", mode: "markers", name: "best", uid: "best", hoverinfo: "skip",
      x: best < 0 ? [] : [evaluations[axis][best]],
      y: best < 0 ? [] : [evaluations.validation_loss[best]],
      marker: { symbol: "star", size: 12, color: COLOURS[1], line: { color: theme.background, width: 1 } },
    },
  ];
  if (smooth > 1) {
    data.push(line(`smoothed: ${smooth} points`, points, smoothed(points.loss, smooth),
      { color: fade(blue, 0.7), width: 1.5, dash: "dashdot" }, { uid: "smoothed" }));
  }
  // The loss without the penalty at the optimum: what the training curve comes to.
  const optimum = status.optimal_loss;
  const hasOptimum = knowsOptimum(status) && optimum > 0;
  if (hasOptimum) {
    const ends = [points[axis][0], points[axis].at(-1)];
    data.push(line("exact optimum", { [axis]: ends }, [optimum, optimum],
      { color: fade(theme.text, 0.55), width: 1.5, dash: "dot" }));
  }
  const bestText = best < 0 ? "" : `, best ${short(evaluations.validation_loss[best])} at step ${whole(evaluations.step[best])}`;
  const start = evaluations.train_loss[0];
  return {
    data: [...data, ...markTraces(scene, axis)],
    label: `Loss by ${AXIS_TITLES[axis]}, to ${AXIS_UNITS[axis]} ${short(points[axis].at(-1))}, ` +
      `${scale === "log" ? "logarithmic" : "linear"}. ` +
      `Training ${short(evaluations.train_loss.at(-1))}${start == null ? "" : ` after ${short(start)} at first`}, ` +
      `validation ${short(evaluations.validation_loss.at(-1))}${bestText}` +
      `${knowsOptimum(status) ? `, exact optimum ${short(optimum)}` : ""}.` +
      toldEvents(history.events),
    layout: {
      ...runLayout(scene, axis, `${axis}-${scale}`),
      yaxis: {
        type: scale, title: { text: "½ · mean squared error" }, exponentformat: "power",
        ...(scale === "log" ? logTicks([evaluations.train_loss, points.loss, hasOptimum ? [optimum] : []]) : {}),
      },
    },
  };
}

function gapFigure(scene) {
  const { history, status, options, theme } = scene;
  const { evaluations } = history;
  const { axis, scale } = options;
  // Rounding may put the last steps a hair below the optimum: a log axis has no room there.
  const gaps = evaluations.train_objective.map((value) =>
    value == null || value <= status.optimum ? null : value - status.optimum);
  return {
    data: [
      {
        type: "scatter", mode: "lines+markers", name: "gap to the optimum", uid: "gap",
        x: evaluations[axis], y: gaps, line: { color: trainingBlue(theme), width: 2.2 }, marker: { size: 4 },
        hovertemplate: "%{y:.4g}",
      },
      ...markTraces(scene, axis),
    ],
    label: `Gap to the exact optimum by ${AXIS_TITLES[axis]}, now ${short(gaps.at(-1))}` +
      `${gaps[0] == null ? "" : ` after ${short(gaps[0])} at first`}.` + toldEvents(history.events),
    layout: {
      ...runLayout(scene, axis, `gap-${axis}-${scale}`),
      yaxis: {
        type: scale, title: { text: "objective − optimum" }, exponentformat: "power",
        ...(scale === "log" ? logTicks([gaps]) : {}),
      },
    },
  };
}

/** What the charts along a run's course share. */
function runLayout(scene, axis, revision) {
  return {
    uirevision: revision,
    margin: { l: 12, r: 12, t: 8, b: 30 },
    xaxis: {
      title: { text: AXIS_TITLES[axis] },
      unifiedhovertitle: { text: `${AXIS_UNITS[axis]} %{x:${axis === "step" ? ",d" : ".4~g"}}` },
    },
    yaxis2: MARKS_AXIS,
    shapes: markLines(scene, axis),
  };
}

function speedFigure(scene) {
  const { history, theme } = scene;
  const { points } = history;
  const blue = trainingBlue(theme);
  return {
    data: [
      {
        type: "scatter", mode: "lines", name: "rows/s", uid: "speed", x: points.seconds, y: points.rows_per_second,
        line: { color: blue, width: 1.8 }, fill: "tozeroy", fillcolor: fade(blue, 0.1),
        hovertemplate: "%{y:.3s} rows/s<extra></extra>",
      },
      ...markTraces(scene, "seconds", RARE),
    ],
    label: `Rows a second over ${clock(points.seconds.at(-1))} of training, now ` +
      `${speedText(points.rows_per_second.at(-1))}.`,
    layout: {
      showlegend: false,
      xaxis: { title: { text: AXIS_TITLES.seconds } },
      yaxis: { rangemode: "tozero", tickformat: "~s", title: { text: "rows/s" } },
      yaxis2: MARKS_AXIS,
      shapes: markLines(scene, "seconds"),
    },
  };
}

function rateFigure(scene) {
  const { history, options, theme } = scene;
  const { points } = history;
  const { axis } = options;
  const norms = points.gradient_norm.map((value) => (value > 0 ? value : null));
  const known = norms.some((value) => value !== null);
  const [green, magenta] = [COLOURS[2], theme.dark ? "#E25BBE" : COLOURS[3]];
  const data = [{
    type: "scatter", mode: "lines", name: "learning rate", uid: "rate", x: points[axis], y: points.learning_rate,
    line: { color: magenta, width: 2, shape: "hv" }, hovertemplate: "%{y:.4g}",
  }];
  if (known) {
    data.push({
      type: "scatter", mode: "lines", name: "gradient norm (right)", uid: "norm", yaxis: "y3", x: points[axis], y: norms,
      line: { color: green, width: 1.2, dash: "dot" }, hovertemplate: "%{y:.4g}",
    });
  }
  return {
    data: [...data, ...markTraces(scene, axis, RARE)],
    label: `Learning rate by ${AXIS_TITLES[axis]}, now ${short(points.learning_rate.at(-1))}; ` +
      `${known ? `norm of the gradient ${short(norms.findLast((value) => value !== null))}` : "the gradient was not measured"}.`,
    layout: {
      ...runLayout(scene, axis, `rate-${axis}`),
      yaxis: { rangemode: "tozero", title: { text: "learning rate" }, exponentformat: "power" },
      yaxis3: {
        overlaying: "y", side: "right", type: "log", showgrid: false, exponentformat: "power", visible: known,
        title: { text: "gradient norm", standoff: 6, font: { size: 11, color: fade(theme.text, 0.75) } },
        tickfont: { size: 11, color: fade(theme.text, 0.75) }, automargin: true, ...logTicks([norms]),
      },
    },
  };
}

function workerFigure(scene, column, unit, name) {
  const { history, theme } = scene;
  const series = new Map();
  const { workers } = history;
  workers.rank.forEach((rank, at) => {
    if (!series.has(rank)) series.set(rank, { x: [], y: [] });
    const one = series.get(rank);
    one.x.push(workers.seconds[at]);
    one.y.push(workers[column][at] === null ? null : workers[column][at] / unit);
  });
  const ranks = [...series.keys()].sort((a, b) => a - b);
  const last = (rank) => series.get(rank).y.findLast((value) => value !== null);
  const told = ranks.slice(0, 8).map((rank) => `worker ${rank} ${Math.round(last(rank) ?? 0)} ${name}`);
  return {
    data: ranks.map((rank, at) => ({
      type: "scatter", mode: "lines", name: `worker ${rank}`, uid: `worker-${rank}`, ...series.get(rank),
      line: {
        color: at % 6 === 0 && theme.dark ? "#4C82FF" : COLOURS[at % 6],
        dash: DASHES[at % 6], width: 1.8,
      },
      hovertemplate: `%{y:.0f} ${name}`,
    })),
    label: `${name === "%" ? "CPU" : "Memory"} of ${ranks.length} ${ranks.length === 1 ? "worker" : "workers"} ` +
      `over time, now: ${told.join(", ")}.`,
    layout: {
      showlegend: ranks.length > 1,
      xaxis: { title: { text: AXIS_TITLES.seconds } },
      yaxis: { rangemode: "tozero", title: { text: name } },
    },
  };
}

/** A chart that has no points yet says so instead of drawing axes. */
function emptyFigure({ status, theme }) {
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

// ---- numbers ----------------------------------------------------------------------------------

/** Whether the exact optimum of what is minimised by steps is known. */
function knowsOptimum(status) {
  return status.optimum != null && !status.exact;
}

function bestOf(values) {
  let best = -1;
  values.forEach((value, at) => {
    if (value !== null && (best < 0 || value < values[best])) best = at;
  });
  return values.length > 1 ? best : -1;
}

/** Ticks of a log axis: each digit where it spans little, then 1, 2 and 5, then powers of ten, some six. */
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
  if (!(span < 100)) return { dtick: Math.max(1, Math.ceil((Math.log10(high) - Math.log10(low)) / 6)) };
  return { dtick: span < 6 ? "D1" : "D2", tickformat: "~g" };
}

function speedText(value) {
  if (value == null) return "–";
  return value >= 1e4 && value < 1e6 ? `${Math.round(value / 1000)} k rows/s` : `${short(value)} rows/s`;
}

/** Where the time of a run went, in seconds: [what, seconds, help]. Workers tell how the time of
 * steps was spent; checkpoints and loading are the coordinator's. */
function timeParts(status, workers) {
  const { load_seconds: load, start_seconds: start, checkpoint_seconds: saved, elapsed } = status;
  const sum = (name) => workers.reduce((total, row) => total + (row[name] || 0), 0);
  const [compute, wait, communicate] = ["compute", "wait", "communicate"].map(sum);
  const all = compute + wait + communicate;
  const checkpoint = Math.min(saved ?? 0, elapsed);
  const steps = Math.max(0, elapsed - checkpoint);
  const parts = [
    ["load", load, "reading the file and preparing the rows"],
    ["start", start, "starting the workers; for steps, finding the exact optimum to compare them with"],
  ];
  if (all > 0) {
    // Workers wait while a checkpoint is written: that is counted once.
    const waited = Math.max(0, (wait / all) * elapsed - checkpoint);
    const rest = (compute + communicate) / all * elapsed;
    const unit = waited + rest > 0 ? steps / (waited + rest) : 0;
    parts.push(
      ["compute", (compute / all) * elapsed * unit, "gradients and scores, in the mean of the workers"],
      ["communicate", (communicate / all) * elapsed * unit, "parameters read, answers handed over"],
      ["wait", waited * unit, "for the others and for the next round"],
    );
  } else {
    parts.push(["compute", steps, "steps and scores"]);
  }
  parts.push(["checkpoint", checkpoint, "the state of the run written to disk"]);
  return parts.filter(([, seconds]) => seconds != null);
}
