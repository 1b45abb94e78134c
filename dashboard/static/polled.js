// A view of a run that asks a route for news and draws them into the same nodes.
//
// It stops while the tab is hidden and when nothing can change any more, says when the server is
// away or fails, follows the theme, and tells the page's script when the state of the run changes.
// A view has `path()` (of its route), `build()` and `take(update)`, which sets `state` and reports.

const PERIOD = 1000;
const SLOW_PERIOD = 4000; // of a run that ended, and may be taken up again
const RETRY_PERIOD = 2000;
const AWAY = "The page's server does not answer. The training goes on; this view comes back by itself.";
const FAILED = "The page's server failed to tell what is new; its log says why. The training goes on.";
const NEVER_AGAIN = ["finished", "diverged"];

class PolledView {
  constructor(parent, runId, className, testId) {
    this.runId = runId;
    this.plots = {};
    this.drawn = {};
    this.root = element("div", `rg-live ${className}`.trim());
    this.root.dataset.testid = testId;
    parent.append(this.root); // beside the style sheet, which stands in there too
    this.offline = element("div", "rg-offline");
    this.offline.setAttribute("role", "status");
    this.offline.hidden = true;
    this.root.append(this.offline);
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
    this.ended = NEVER_AGAIN.includes(this.state) && data.state === this.state;
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

  async poll() {
    clearTimeout(this.timer);
    if (this.destroyed || this.asking) return;
    this.asking = true;
    let wait = RETRY_PERIOD;
    try {
      const answer = await this.ask(this.path());
      if (answer.status === 200) this.take(await answer.json());
      else if (answer.status === 404) this.report("deleted");
      else if (answer.ok) this.report(this.stands);
      const failed = !answer.ok && answer.status !== 404;
      this.say(failed ? FAILED : "");
      // Once more after the end: the last lines and figures may be written after the state.
      const over = NEVER_AGAIN.includes(this.state);
      const heard = this.stands === this.known;
      this.ended = answer.status === 404 || (over && this.wasOver && heard);
      this.wasOver = over;
      if (!failed) wait = this.period();
    } catch (error) {
      this.say(AWAY);
    } finally {
      this.asking = false;
    }
    if (this.destroyed || this.ended || document.hidden || this.resting) return;
    this.timer = setTimeout(() => this.poll(), wait);
  }

  /** Milliseconds until the next question. */
  period() {
    return ["stopped", "failed"].includes(this.state) ? SLOW_PERIOD : PERIOD;
  }

  /** What is wrong with the answers, if anything. */
  say(trouble) {
    if (this.offline.textContent !== trouble) this.offline.textContent = trouble;
    this.offline.hidden = !trouble;
  }

  ask(path) {
    return fetch(`/api/runs/${this.runId}/${path}`, { cache: "no-store" });
  }

  /** Tell the page's script that the run stands otherwise than it knows; again, if it has not
   * followed for a while: another rerun of the script may have taken the place of this one. */
  report(stands) {
    this.stands = stands;
    if (stands === undefined || stands === this.known || pageIsBusy()) return;
    const now = performance.now();
    if (stands === this.reported && now - this.reportedAt < REPORT_PATIENCE) return;
    this.reported = stands;
    this.reportedAt = now;
    this.setStateValue("state", `${stands} ${Math.round(now)}`); // never the same as before
  }

  card(className, title, help) {
    const card = element("section", `rg-card ${className}`);
    const head = element("div", "rg-head");
    const heading = element("h2", "", title);
    if (help) heading.title = help;
    head.append(heading);
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

  /** Draw a figure { data, layout, label } if it, or the theme, is another than the last. */
  react(Plotly, name, theme, figure) {
    const key = JSON.stringify([figure, theme]);
    if (this.drawn[name] === key) return;
    this.drawn[name] = key;
    this.plots[name].setAttribute("aria-label", figure.label);
    Plotly.react(this.plots[name], figure.data, baseLayout(theme, figure.layout), PLOT_CONFIG);
  }

  drawPlots() {} // of a view that has charts

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
