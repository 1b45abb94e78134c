// Draws the charts of a report in the colours of the reader's theme; without it their captions
// and tables say the same.

const charts = JSON.parse(document.getElementById("charts").textContent);

function drawCharts() {
  if (!window.Plotly) return;
  document.body.classList.add("drawn");
  const theme = readTheme(document.documentElement);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  charts.forEach((chart, place) => {
    const node = document.getElementById(`chart-${place}`);
    node.style.height = `${chart.height}px`;
    const layout = baseLayout(theme, chart.layout);
    if (still) layout.transition = { duration: 0 };
    window.Plotly.react(node, chart.traces, layout, { ...PLOT_CONFIG, displayModeBar: false });
  });
}

drawCharts();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
