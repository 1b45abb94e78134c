// Parts that every component of the page uses; put in front of each component's own script.

const PLOTLY_URL = "/assets/plotly-cartesian-4.1.1.min.js";
const COLOURS = ["#155AFA", "#DC7C00", "#47A48B", "#BB0E8D", "#8C85ED", "#6B6627"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

/** Plotly, loaded once a tab and only when a chart is drawn. */
function loadPlotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  if (!window.regattaPlotly) {
    window.regattaPlotly = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = PLOTLY_URL;
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => {
        window.regattaPlotly = undefined;
        reject(new Error("charts could not be loaded"));
      };
      document.head.appendChild(script);
    });
  }
  return window.regattaPlotly;
}

/** The theme in force around `node`, from Streamlit's CSS variables. */
function readTheme(node) {
  const style = getComputedStyle(node);
  const value = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const background = value("--st-background-color", "#ffffff");
  return {
    background,
    dark: luminance(background) < 0.4,
    text: value("--st-text-color", "#1b2430"),
    primary: value("--st-primary-color", COLOURS[0]),
    panel: value("--st-secondary-background-color", "#f4f6fa"),
    border: value("--st-border-color", "#d9dfe8"),
    font: value("--st-font", "sans-serif"),
  };
}

function luminance(colour) {
  const hex = colour.match(/^#([0-9a-f]{6})/i);
  const parts = hex
    ? [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16))
    : (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3).map(Number);
  return (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
}

/** `colour` ("#rrggbb" or "rgb(…)") with an opacity. */
function fade(colour, opacity) {
  const hex = colour.match(/^#([0-9a-f]{6})/i);
  const parts = hex
    ? [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16))
    : (colour.match(/[\d.]+/g) || [0, 0, 0]).slice(0, 3);
  return `rgba(${parts.join(",")},${opacity})`;
}

/** What all charts share: colours, margins, and a revision that keeps zoom and hidden traces. */
function baseLayout(theme, changes) {
  const axis = {
    gridcolor: fade(theme.text, 0.1),
    linecolor: fade(theme.text, 0.25),
    zerolinecolor: fade(theme.text, 0.15),
    tickfont: { size: 11, color: fade(theme.text, 0.75) },
    title: { font: { size: 11, color: fade(theme.text, 0.75) }, standoff: 6 },
    automargin: true,
  };
  const rest = {};
  const axes = { xaxis: undefined, yaxis: undefined };
  for (const [name, value] of Object.entries(changes)) {
    (/^[xy]axis\d*$/.test(name) ? axes : rest)[name] = value;
  }
  const merged = (own) => ({
    ...axis,
    ...own,
    title: { ...axis.title, ...(own && own.title) },
  });
  return {
    font: { family: theme.font, size: 12, color: theme.text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 12, r: 12, t: 8, b: 30 },
    hovermode: "x unified",
    hoverlabel: {
      bgcolor: theme.background,
      bordercolor: theme.border,
      font: { color: theme.text, family: theme.font },
    },
    // Upright at the edge of the plot: it would lie on the legend otherwise.
    modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: fade(theme.text, 0.35), activecolor: fade(theme.text, 0.8) },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    uirevision: "keep",
    ...Object.fromEntries(Object.entries(axes).map(([name, own]) => [name, merged(own)])),
    ...rest,
  };
}

const PLOT_CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"],
  plotlyServerURL: "", // nothing leaves this machine
};

/** What a component module exports: one view a node, made anew when it is about something else. */
function mounted(View, subjectOf = (data) => data.run_id) {
  const views = new WeakMap();
  return (component) => {
    const { parentElement, data, setStateValue } = component;
    const subject = subjectOf(data);
    let { view, about } = views.get(parentElement) ?? {};
    if (!view || about !== subject) {
      view?.destroy();
      view = new View(parentElement, subject);
      views.set(parentElement, { view, about: subject });
    }
    view.configure(data, setStateValue);
    return () => {
      view.destroy();
      views.delete(parentElement);
    };
  };
}

const REPORT_PATIENCE = 3000; // until the page's script has followed what was reported

/** Whether the page's script runs, or may be about to: what a component reports meanwhile can take
 * the place of a click, and of the page that was asked for by it. */
function pageIsBusy() {
  const { acted, answered } = watchPage();
  return scriptRuns() || (!answered && performance.now() - acted < REPORT_PATIENCE);
}

function scriptRuns() {
  const app = document.querySelector("[data-testid=stApp]");
  return ["running", "rerunRequested"].includes(app?.dataset.testScriptState);
}

/** When somebody last did something, and whether the script has begun to run since then: until the
 * server answers a click, nothing else in the page tells of it. Kept once for all components. */
function watchPage() {
  if (window.regattaPage) return window.regattaPage;
  const seen = { acted: -Infinity, answered: true };
  const act = () => Object.assign(seen, { acted: performance.now(), answered: false });
  for (const kind of ["click", "keydown", "change", "drop"]) {
    document.addEventListener(kind, act, { capture: true, passive: true });
  }
  const observer = new MutationObserver(() => {
    if (scriptRuns()) seen.answered = true;
  });
  observer.observe(document, { subtree: true, attributeFilter: ["data-test-script-state"] });
  window.regattaPage = seen;
  return seen;
}

watchPage();

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** 1234567 → "1.23 M"; small numbers keep four significant digits. */
function short(value) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [unit, name] of [[1e12, " T"], [1e9, " G"], [1e6, " M"]]) {
    if (size >= unit) return `${(value / unit).toPrecision(3)}${name}`;
  }
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size >= 0.001 || size === 0) return String(Number(value.toPrecision(4)));
  return value.toExponential(2);
}

/** 2431000000 → "2.431 × 10⁹"; numbers of everyday size as they are. */
function scientific(value) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  if (value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 1e6)) return short(value);
  const [digits, power] = value.toExponential(3).split("e");
  const raised = [...String(Number(power))].map((each) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[each] ?? "⁻").join("");
  return `${digits} × 10${raised}`;
}

function whole(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

/** 75 → "1:15"; 4000 → "1:06:40"; below ten seconds with a decimal. */
function clock(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const two = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)} min`;
}
