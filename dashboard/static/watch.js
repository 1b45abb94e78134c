// Nothing to see: it asks a route whether what the page shows has changed, and if so tells the page's
// script. A hidden tab does not ask.

class Watch {
  configure(data, setStateValue) {
    this.data = data;
    this.setStateValue = setStateValue;
    this.reportedAt = undefined;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.look(), data.seconds * 1000);
  }

  destroy() {
    clearInterval(this.timer);
  }

  async look() {
    if (document.hidden || this.asking) return;
    this.asking = true;
    try {
      const answer = await fetch(this.data.path, { cache: "no-store" });
      if (answer.ok) this.compare((await answer.json()).tag);
    } catch {
      // The server is away: Streamlit says so.
    } finally {
      this.asking = false;
    }
  }

  compare(tag) {
    const now = performance.now();
    if (tag === this.data.tag || pageIsBusy() || now - this.reportedAt < REPORT_PATIENCE) return;
    this.reportedAt = now;
    this.setStateValue("changed", Math.round(now)); // never the same as before
  }
}

export default mounted(Watch, (data) => data.path);
