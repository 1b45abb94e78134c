// The page "Workers": what limits the run, how each worker spends its time, what it uses and moves.

const STATES = {
  compute: ["●", "computing"],
  wait: ["◐", "waiting"],
  starting: ["○", "starting"],
  asleep: ["○", "resting"],
  left: ["■", "left"],
};
const PARTS = [
  ["compute", "compute", ""],
  ["wait", "wait", "/"],
  ["communicate", "communicate", "x"],
];
const MAX_ROWS = 8000; // of the series: then they are asked for anew, thinned by the server
const MAX_SHOWN_EVENTS = 100;

class CrewView extends PolledView {
  constructor(parent, runId) {
    super(parent, runId, "rg-crew", "crew-view");
    this.cursor = "";
    this.tag = "";
    this.history = emptyCrew();
  }

  path() {
    return `workers?${new URLSearchParams({ since: this.cursor, tag: this.tag })}`;
  }

  take(update) {
    if (update.reset) this.history = emptyCrew();
    this.cursor = update.cursor;
    this.tag = update.tag;
    this.state = update.run.state;
    this.latest = update;
    for (const name of ["series", "machine", "points"]) {
      for (const [column, values] of Object.entries(update[name])) {
        this.history[name][column] = (this.history[name][column] ?? []).concat(values);
      }
    }
    this.history.events.push(...update.events);
    const sizes = [this.history.series.rank, this.history.points.seconds, this.history.machine.seconds];
    if (sizes.some((each) => each.length > MAX_ROWS)) this.cursor = "";
    this.draw();
    this.report(update.run.stands);
  }

  // ---- building -----------------------------------------------------------------------------

  build() {
    this.root.append(this.buildLimits());
    this.empty = element("p", "rg-empty");
    this.grid = element("div", "rg-grid");
    this.root.append(this.empty, this.grid);
    const timeline = this.card("rg-wide rg-timeline", "The last 30 s",
      "What each worker did: compute gradients, wait for the others or the coordinator, or read parameters and hand in gradients. Looked at once a second.");
    timeline.append(this.plot("timeline"));
    const events = this.card("", "What happened to workers");
    this.eventList = element("ul", "rg-events");
    this.eventList.tabIndex = 0;
    this.eventList.setAttribute("aria-label", "what happened to workers, the latest first");
    this.eventList.dataset.testid = "crew-events";
    events.append(this.eventList);
    const table = this.card("rg-full", "Workers");
    this.table = element("table", "rg-table");
    this.table.dataset.testid = "crew-table";
    table.append(this.table);
    this.grid.append(timeline, events, table);
    this.curves = [];
    for (const [name, title, help] of [
      ["rows", "Rows a worker", "Training rows that each worker computes a second."],
      ["cpu", "CPU a worker", "Percent of one core."],
      ["memory", "Memory a worker", "Memory of its own. The training rows are mapped from a file and shared, and do not count."],
      ["scaling", "Throughput and ideal scaling", "Rows a second of all workers. Ideal: as many times the pace of fewer workers as there are workers."],
      ["bytes", "Parameters and gradients", "Bytes that the coordinator publishes to the workers, and gathers from them, through shared memory."],
      ["network", "Network of this machine", "Of all programs. The workers of a run talk through memory and use no network."],
    ]) {
      const card = this.card("", title, help);
      card.append(this.plot(name));
      this.curves.push(card);
    }
    this.scalingNote = element("p", "rg-shares");
    this.curves[3].append(this.scalingNote);
    this.tooShort = element("p", "rg-empty rg-full");
    this.grid.append(...this.curves, this.tooShort);
    this.staleCard = this.card("rg-full", "Staleness",
      "How many updates the weights had taken since a gradient's own were read. 0: none.");
    this.staleCard.append(this.plot("staleness"));
    this.grid.append(this.staleCard);
  }

  buildLimits() {
    const card = this.card("rg-limits", "What limits this run",
      "Judged by how the workers spent their time: in the last 30 s, or in the whole of a run that has ended.");
    card.dataset.testid = "limits";
    this.sentence = element("p", "rg-sentence", " ");
    this.sentence.setAttribute("role", "status");
    this.advice = element("p", "rg-advice");
    this.bar = element("div", "rg-split");
    this.bar.setAttribute("aria-hidden", "true");
    for (const [name] of PARTS) this.bar.append(element("i", `rg-${CLASSES[name]}`));
    this.shares = element("p", "rg-shares");
    card.append(this.sentence, this.advice, this.bar, this.shares);
    return card;
  }

  // ---- drawing ------------------------------------------------------------------------------

  draw() {
    const { run, workers, timeline, staleness } = this.latest;
    this.drawLimits();
    const some = workers.length > 0 && this.history.series.rank.length > 0;
    this.grid.hidden = !some;
    this.empty.hidden = some;
    this.empty.textContent = some ? "" : emptyText(run);
    if (!some) return;
    this.staleCard.hidden = !staleness;
    const curves = [...crewRates(this.history.series).values()].some(({ x }) => x.length);
    for (const card of this.curves) card.hidden = run.terminal && !curves;
    this.tooShort.hidden = !run.terminal || curves;
    this.tooShort.textContent = "The run was over too soon for curves: workers are looked at once a second.";
    this.scalingNote.textContent = this.latest.reference
      ? "" : "The ideal is known once the same training has been seen with fewer workers.";
    this.drawTable();
    this.drawEvents();
    this.plots.timeline.style.height = `${Math.max(170, 62 + 34 * timeline.length)}px`;
    loadPlotly()
      .then((Plotly) => !this.destroyed && this.drawPlots(Plotly))
      .catch(() => {});
  }

  drawLimits() {
    const { limits, run } = this.latest;
    put(this.sentence, limits.sentence);
    const notes = [limits.advice];
    if (run.exact) {
      notes.push("An exact run takes one pass instead of steps: rows are counted as workers take them in, shard by shard.");
    }
    put(this.advice, notes.filter(Boolean).join(" "));
    const found = limits.evidence;
    const measured = found.compute_share != null && found.seconds > 0;
    this.bar.hidden = this.shares.hidden = !measured;
    if (!measured) return;
    PARTS.forEach(([name], at) => {
      this.bar.children[at].style.width = `${100 * found[`${name}_share`]}%`;
    });
    const texts = PARTS.map(([name, word]) => `${word} ${percent(found[`${name}_share`])}`);
    texts[0] = `The workers' time: ${texts[0]}`;
    if (found.without_core_share > 0.02) texts.push(`computing without a core ${percent(found.without_core_share)}`);
    if (found.machine_cpu_percent != null) texts.push(`CPU of the machine ${Math.round(found.machine_cpu_percent)} %`);
    if (found.rows_per_step && !run.exact) texts.push(`${whole(found.rows_per_step)} rows a step`);
    texts.push(`measured over ${found.seconds < 1 ? `${Math.round(1000 * found.seconds)} ms` : clock(found.seconds)}`);
    put(this.shares, texts.join(" · "));
  }

  drawTable() {
    const { workers, run } = this.latest;
    const heads = [
      ["Worker", ""], ["State", ""], ["Rows/s", ""], ["CPU", ""], ["Memory", ""],
      ["Rows in all", "rg-spare"], ["Shards", "rg-spare"], ["Started", "rg-spare"],
      ["Died", ""], ["Process", "rg-spare"], ["Log", ""],
    ];
    const deaths = countDeaths(this.history.events);
    const paces = crewRates(this.history.series);
    const cells = workers.map((row) => {
      const [symbol, word] = run.terminal ? ["■", "ended"]
        : run.state === "paused" ? ["❚❚", "paused"] : STATES[row.state] ?? ["■", row.state];
      const pace = paces.get(row.rank)?.rows ?? [];
      return [
        `${row.rank}`, `${symbol} ${word}`, paceText(pace.at(-1) ?? overallPace(this.history.series, row.rank)),
        row.cpu_percent == null ? "–" : `${Math.round(row.cpu_percent)} %`, bytes(row.memory_bytes),
        short(row.rows), run.exact ? "on demand" : whole(row.shards),
        times((row.incarnation ?? 0) + 1), times(deaths.get(row.rank) ?? 0), `${row.pid}`, "lines",
      ];
    });
    const key = JSON.stringify(cells);
    if (key === this.tableKey) return;
    this.tableKey = key;
    if (this.table.rows.length !== cells.length + 1) this.table.replaceChildren(...tableRows(heads, cells));
    cells.forEach((texts, at) => {
      texts.forEach((text, column) => {
        const cell = this.table.rows[at + 1].cells[column];
        put(column === heads.length - 1 ? cell.firstChild : cell, text);
      });
      const { rank } = workers[at];
      const link = this.table.rows[at + 1].cells[heads.length - 1].firstChild;
      link.href = `/logs?${new URLSearchParams({ run: this.runId, process: `worker${rank}` })}`;
      link.setAttribute("aria-label", `log of worker ${rank}`);
      this.table.rows[at + 1].dataset.rank = rank;
    });
  }

  drawEvents() {
    const { events } = this.history;
    const shown = events.slice(-MAX_SHOWN_EVENTS).reverse();
    const key = shown.map((event) => event.id).join();
    if (this.eventsKey === key) return;
    this.eventsKey = key;
    this.eventList.replaceChildren(...shown.map((event) => {
      const item = element("li", `rg-event rg-${event.kind}`);
      item.append(element("time", "", clock(event.seconds)), element("span", "", event.message || event.kind));
      return item;
    }));
  }

  drawPlots(Plotly) {
    const theme = readTheme(this.root);
    this.theme = JSON.stringify(theme);
    const { run, timeline, reference, staleness } = this.latest;
    const { series, machine, points } = this.history;
    const rates = crewRates(series);
    this.react(Plotly, "timeline", theme, timelineFigure(theme, timeline));
    this.react(Plotly, "rows", theme, linesFigure(theme, rates, "rows", 1, "rows/s"));
    this.react(Plotly, "cpu", theme, linesFigure(theme, rates, "cpu", 1, "%"));
    this.react(Plotly, "memory", theme, linesFigure(theme, rates, "memory", 1e6, "MB"));
    this.react(Plotly, "scaling", theme, scalingFigure(theme, rates, reference));
    this.react(Plotly, "bytes", theme, flowFigure(theme, points, [
      ["published", "bytes_published"], ["gathered", "bytes_gathered"],
    ], run.exact ? "An exact run publishes no parameters: workers send sums of their shards." : "No bytes were counted yet."));
    this.react(Plotly, "network", theme, flowFigure(theme, machine, [
      ["received", "net_received"], ["sent", "net_sent"],
    ], "Nothing was measured yet."));
    if (staleness) this.react(Plotly, "staleness", theme, stalenessFigure(theme, staleness));
  }
}

const CLASSES = { compute: "compute", wait: "wait", communicate: "send" };

function emptyCrew() {
  return { series: { seconds: [], rank: [] }, machine: { seconds: [] }, points: { seconds: [] }, events: [] };
}

function emptyText(run) {
  if (run.workers === 0) return "This run computes in one process: it has no workers to look at.";
  if (run.terminal) return "No workers were recorded: the run ended before they began.";
  if (run.state === "queued") return "Workers start when it is this run's turn.";
  return "Workers start when the data are ready.";
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function times(count) {
  return count === 0 ? "never" : count === 1 ? "once" : `${count} times`;
}

function countDeaths(events) {
  const found = new Map();
  for (const { kind, rank } of events) {
    if (kind === "worker_died") found.set(rank, (found.get(rank) ?? 0) + 1);
  }
  return found;
}

function tableRows(heads, cells) {
  const head = element("tr");
  head.append(...heads.map(([text, className]) => {
    const cell = element("th", className, text);
    cell.scope = "col";
    return cell;
  }));
  return [head, ...cells.map((texts) => {
    const row = element("tr");
    row.append(...texts.map((_, column) => {
      const cell = element(column === 0 ? "th" : "td", heads[column][1]);
      if (column === 0) cell.scope = "row";
      if (column === texts.length - 1) cell.append(element("a", "rg-link"));
      return cell;
    }));
    return row;
  })];
}

/** Of each rank { x, rows (a second), cpu (percent), memory (bytes) }, at the end of each stretch. */
function crewRates(series) {
  const found = new Map();
  const before = new Map();
  series.rank.forEach((rank, at) => {
    if (!found.has(rank)) found.set(rank, { x: [], rows: [], cpu: [], memory: [] });
    const last = before.get(rank);
    const length = last === undefined ? 0 : series.seconds[at] - series.seconds[last];
    if (last !== undefined && length >= 0 && length < 0.2) return; // too short to tell a rate
    before.set(rank, at);
    const line = found.get(rank);
    if (length < 0) { // the run was resumed from before: what was lost is not drawn
      const kept = line.x.findIndex((second) => second > series.seconds[at]);
      if (kept >= 0) for (const values of Object.values(line)) values.length = kept;
    }
    if (last === undefined || length < 0) return;
    const grown = series.rows[at] - series.rows[last];
    line.x.push(series.seconds[at]);
    line.rows.push(grown < 0 ? null : grown / length);
    line.cpu.push(series.cpu_percent[at]);
    line.memory.push(series.memory_bytes[at]);
  });
  return found;
}

/** Rows a second of a worker from its first look to its last: of a run too short for more. */
function overallPace(series, rank) {
  const first = series.rank.indexOf(rank);
  const last = series.rank.lastIndexOf(rank);
  const length = series.seconds[last] - series.seconds[first];
  return length > 0 ? (series.rows[last] - series.rows[first]) / length : null;
}

function paceText(value) {
  return value == null ? "–" : short(Math.round(value));
}

function seriesColour(theme, at) {
  return at % 6 === 0 && theme.dark ? "#4C82FF" : COLOURS[at % 6];
}

function timelineFigure(theme, bars) {
  const colours = { compute: seriesColour(theme, 0), wait: COLOURS[1], communicate: COLOURS[2] };
  const names = bars.map((bar) => `worker ${bar.rank}`);
  const data = PARTS.map(([part, name, shape], place) => {
    const base = [], x = [], y = [], text = [];
    bars.forEach((bar, at) => bar.start.forEach((start, k) => {
      const before = PARTS.slice(0, place).reduce((sum, [other]) => sum + bar[other][k], 0);
      base.push(start + before);
      x.push(bar[part][k]);
      y.push(names[at]);
      text.push(percent(bar[part][k] / (bar.end[k] - start)));
    }));
    return {
      type: "bar", orientation: "h", name, uid: part, base, x, y, customdata: text, width: 0.62,
      marker: {
        color: colours[part], line: { width: 0 },
        pattern: shape
          ? { shape, size: 5, solidity: 0.4, bgcolor: colours[part], fgcolor: theme.background }
          : undefined,
      },
      hovertemplate: `%{y}: ${name} %{customdata}<extra></extra>`,
    };
  });
  const ends = bars.flatMap((bar) => bar.end);
  const end = ends.length ? Math.max(...ends) : 1;
  const begin = Math.max(0, end - 30);
  const shares = bars.map((bar) => {
    const sum = (part) => bar[part].reduce((all, each) => all + each, 0);
    const total = PARTS.reduce((all, [part]) => all + sum(part), 0) || 1;
    return `worker ${bar.rank}: ${PARTS.map(([part, name]) => `${name} ${percent(sum(part) / total)}`).join(", ")}`;
  });
  return {
    data,
    label: `How each worker spent the last ${Math.round(end - begin)} s. ${shares.join("; ")}.`,
    layout: {
      barmode: "overlay", hovermode: "closest",
      xaxis: { range: [begin, end], title: { text: "seconds in training" }, zeroline: false },
      yaxis: { autorange: "reversed", fixedrange: true, type: "category", showgrid: false },
    },
  };
}

function linesFigure(theme, rates, column, unit, name) {
  const ranks = [...rates.keys()].sort((a, b) => a - b).filter((rank) => rates.get(rank).x.length);
  if (!ranks.length) return emptyFigureOf(theme, "The first figures come after a second of training.");
  const last = (rank) => rates.get(rank)[column].at(-1);
  const shown = (value) => (value == null ? "–" : short(Math.round(value / unit)));
  return {
    data: ranks.map((rank, at) => ({
      type: "scatter", mode: rates.get(rank).x.length > 1 ? "lines" : "markers",
      name: `worker ${rank}`, uid: `worker-${rank}`,
      x: rates.get(rank).x, y: rates.get(rank)[column].map((value) => (value == null ? null : value / unit)),
      line: { color: seriesColour(theme, at), dash: DASHES[at % 6], width: 1.8 },
      hovertemplate: `%{y:,.0f} ${name}`,
    })),
    label: `${name === "%" ? "CPU" : name === "MB" ? "Memory" : "Rows a second"} of each worker over time, now ` +
      `${ranks.map((rank) => `worker ${rank}: ${shown(last(rank))} ${name}`).join(", ")}.`,
    layout: {
      showlegend: ranks.length > 1,
      xaxis: { title: { text: "seconds in training" }, ...secondsHover },
      yaxis: { rangemode: "tozero", title: { text: name }, ...(unit === 1 && name !== "%" ? { tickformat: "~s" } : {}) },
    },
  };
}

const secondsHover = { unifiedhovertitle: { text: "after %{x:.1f} s" } };

function scalingFigure(theme, rates, reference) {
  const sums = new Map();
  for (const { x, rows } of rates.values()) {
    x.forEach((second, at) => {
      const sum = sums.get(second) ?? { rows: 0, workers: 0 };
      sum.rows += rows[at] ?? 0;
      sum.workers += 1;
      sums.set(second, sum);
    });
  }
  const seconds = [...sums.keys()].sort((a, b) => a - b);
  if (!seconds.length) return emptyFigureOf(theme, "The first figures come after a second of training.");
  const values = seconds.map((second) => sums.get(second).rows);
  const data = [{
    type: "scatter", mode: seconds.length > 1 ? "lines" : "markers", name: "all workers", uid: "all",
    x: seconds, y: values, line: { color: seriesColour(theme, 0), width: 2 }, hovertemplate: "%{y:.4s} rows/s",
  }];
  let told = `All workers: ${short(Math.round(values.at(-1)))} rows a second now.`;
  if (reference) {
    const one = reference.rows_per_second / reference.workers;
    const ideal = seconds.map((second) => one * sums.get(second).workers);
    data.push({
      type: "scatter", mode: seconds.length > 1 ? "lines" : "markers", name: "ideal scaling", uid: "ideal",
      x: seconds, y: ideal, line: { color: fade(theme.text, 0.6), width: 1.5, dash: "dot", shape: "hv" },
      hovertemplate: "%{y:.4s} rows/s",
    });
    told += ` That is ${percent(values.at(-1) / ideal.at(-1))} of the ideal: ${sums.get(seconds.at(-1)).workers} workers, ` +
      `each as fast as when there ${reference.workers === 1 ? "was 1" : `were ${reference.workers}`}.`;
  } else {
    told += " The ideal is not known.";
  }
  return {
    data, label: told,
    layout: {
      showlegend: data.length > 1,
      xaxis: { title: { text: "seconds in training" }, ...secondsHover },
      yaxis: { rangemode: "tozero", tickformat: "~s", title: { text: "rows/s" } },
    },
  };
}

/** Bytes a second, of cumulative columns: over a second or more. */
function flowFigure(theme, table, lines, nothing) {
  const picked = [];
  const gap = Math.max(0.95, ((table.seconds.at(-1) ?? 0) - (table.seconds[0] ?? 0)) / 600);
  table.seconds.forEach((second, at) => {
    if (!picked.length || second - table.seconds[picked.at(-1)] >= gap) picked.push(at);
  });
  // A run that is over in less has one stretch: all of it.
  if (picked.length === 1 && table.seconds.at(-1) > table.seconds[0]) picked.push(table.seconds.length - 1);
  const x = picked.slice(1).map((at) => table.seconds[at]);
  const flows = lines.map(([name, column]) => ({
    name,
    y: picked.slice(1).map((at, k) => {
      const grown = (table[column]?.[at] ?? NaN) - (table[column]?.[picked[k]] ?? NaN);
      return grown >= 0 ? grown / (table.seconds[at] - table.seconds[picked[k]]) : null;
    }),
  }));
  if (!flows.some(({ y }) => y.some((value) => value !== null && value >= 0)) ||
      (nothing.startsWith("An exact") && flows.every(({ y }) => y.every((value) => !value)))) {
    return emptyFigureOf(theme, nothing);
  }
  return {
    data: flows.map(({ name, y }, at) => ({
      type: "scatter", mode: x.length > 1 ? "lines" : "markers", name, uid: name, x, y,
      line: { color: seriesColour(theme, at), dash: DASHES[at], width: 1.8 },
      hovertemplate: "%{y:.3s}B/s",
    })),
    label: `${flows.map(({ name, y }) => `${name} ${flow(y.at(-1))}`).join(", ")} now.`,
    layout: {
      showlegend: true,
      xaxis: { title: { text: "seconds in training" }, ...secondsHover },
      yaxis: { rangemode: "tozero", tickformat: "~s", title: { text: "bytes/s" } },
    },
  };
}

function flow(value) {
  if (value == null) return "–";
  for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= unit) return `${(value / unit).toPrecision(3)} ${name} a second`;
  }
  return `${Math.round(value)} bytes a second`;
}

function stalenessFigure(theme, { updates, gradients, p95 }) {
  const total = gradients.reduce((sum, each) => sum + each, 0) || 1;
  const mean = updates.reduce((sum, each, at) => sum + each * gradients[at], 0) / total;
  const largest = updates.at(-1);
  return {
    data: [{
      type: "bar", name: "gradients", x: updates, y: gradients.map((each) => (100 * each) / total),
      marker: { color: updates.map((each) => (each <= p95 ? seriesColour(theme, 0) : COLOURS[1])) },
      hovertemplate: "%{y:.3g} % of the gradients<extra></extra>",
    }],
    label: `Staleness of ${whole(total)} gradients: ${short(mean)} updates in the mean, ` +
      `95 % have ${p95} or fewer, the largest is ${largest}.`,
    layout: {
      showlegend: false,
      xaxis: {
        title: { text: "updates since the gradient's weights were read" },
        ...(largest < 25 ? { dtick: 1 } : {}), unifiedhovertitle: { text: "staleness %{x}" },
      },
      yaxis: { title: { text: "% of gradients" }, rangemode: "tozero" },
      shapes: [{
        type: "line", x0: p95 + 0.5, x1: p95 + 0.5, y0: 0, y1: 1, yref: "paper",
        line: { color: fade(theme.text, 0.6), dash: "dot", width: 1.5 },
      }],
      annotations: [{
        x: p95 + 0.5, y: 1, yref: "paper", xanchor: "left", yanchor: "top", showarrow: false,
        text: ` 95 % have ${p95} or fewer`, font: { size: 11, color: theme.text },
      }],
    },
  };
}

/** A chart that has nothing to show says why. */
function emptyFigureOf(theme, text) {
  return {
    data: [], label: text,
    layout: {
      xaxis: { visible: false }, yaxis: { visible: false },
      annotations: [{
        text: wrapped(text), showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5,
        font: { size: 12, color: fade(theme.text, 0.68) },
      }],
    },
  };
}

/** Plotly breaks no lines by itself. */
function wrapped(text) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length > 38) lines.push("");
    lines[lines.length - 1] += `${word} `;
  }
  return lines.map((line) => line.trim()).join("<br>");
}

export default mounted(CrewView);
