// A chart that follows the theme: a figure from the server, drawn with the vendored Plotly.

const charts = new WeakMap();

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let node = parentElement.querySelector(".rg-chart");
  if (!node) {
    node = element("div", "rg-chart");
    node.setAttribute("role", "group");
    parentElement.append(node);
    const observer = new ResizeObserver(() => {
      if (window.Plotly && node.data && node.offsetWidth) window.Plotly.Plots.resize(node);
    });
    observer.observe(node);
    charts.set(node, { observer });
  }
  const chart = charts.get(node);
  clearInterval(chart.timer);
  node.style.height = `${data.height}px`;
  node.setAttribute("aria-label", data.label);
  node.tell = data.clickable ? (key) => setTriggerValue("clicked", key) : null;
  let drawn = "";
  const draw = () =>
    loadPlotly().then((Plotly) => {
      const theme = readTheme(node);
      const key = JSON.stringify(theme);
      if (key === drawn || document.hidden) return;
      drawn = key;
      const layout = baseLayout(theme, data.layout);
      Plotly.react(node, themed(data.traces, theme), layout, { ...PLOT_CONFIG, displayModeBar: false });
      listen(node);
    }).catch(() => {});
  draw();
  chart.timer = setInterval(draw, 1500);
  return () => {
    clearInterval(chart.timer);
    chart.observer.disconnect();
    if (window.Plotly) window.Plotly.purge(node);
  };
}

/** A click on a point that has a key of its own tells it, where somebody wants to know. */
function listen(node) {
  if (node.listens) return;
  node.listens = true;
  node.on("plotly_click", ({ points }) => {
    const point = points.find(({ data }) => data.type === "scatter");
    if (node.tell && typeof point?.customdata === "number") node.tell(point.customdata);
  });
}

/** Colours named by their role ("@training", "@series-0" …) become those of the theme. */
function themed(traces, theme) {
  const roles = {
    "@training": theme.dark ? "#4C82FF" : COLOURS[0],
    "@validation": COLOURS[1],
    "@quiet": fade(theme.text, 0.45),
  };
  roles[COLOURS[0]] = roles["@training"]; // in figures that are made for files, too
  COLOURS.forEach((colour, place) => {
    roles[`@series-${place}`] = place === 0 ? roles["@training"] : colour;
  });
  return JSON.parse(JSON.stringify(traces), (key, value) => roles[value] ?? value);
}
