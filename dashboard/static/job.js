// How far a piece of work is that the page waits for: it asks a route, and tells the page's script
// when the work has ended. Nothing of the page runs again until then.

const PERIOD = 400;
const RETRY_PERIOD = 2000;
const AWAY = "The page's server does not answer. The work goes on; this comes back by itself.";

class Wait {
  constructor(parent, jobId) {
    this.jobId = jobId;
    this.line = new ProgressLine("");
    this.line.cancel.onclick = () => this.cancel();
    parent.append(this.line.root);
    this.onVisible = () => {
      if (!document.hidden) this.poll();
    };
    document.addEventListener("visibilitychange", this.onVisible);
  }

  configure(data, setStateValue) {
    this.data = data;
    this.setStateValue = setStateValue;
    this.line.cancel.hidden = !data.can_cancel;
    this.show(data.status);
    this.poll();
  }

  destroy() {
    this.destroyed = true;
    this.line.root.remove();
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
  }

  show(status) {
    const { text, brief } = this.data;
    const percent = `${Math.floor(100 * status.fraction)}%`;
    const words = brief ? `${text}: ${percent}` : status.message || text;
    this.cancelled = status.cancelled;
    this.line.cancel.disabled = this.cancelled;
    this.line.show(status.fraction, this.cancelled ? "Cancelling …" : words);
  }

  async cancel() {
    this.line.cancel.disabled = true;
    watchPage().answered = true; // this click is not for the script
    const headers = { "X-Regatta-Request": "cancel" };
    await fetch(`/api/jobs/${this.jobId}/cancel`, { method: "POST", headers }).catch(() => {});
    this.poll(); // which says whether it was heard
  }

  async poll() {
    clearTimeout(this.timer);
    if (this.destroyed || this.asking) return;
    this.asking = true;
    let period = PERIOD;
    try {
      const answer = await fetch(`/api/jobs/${this.jobId}`, { cache: "no-store" });
      const status = answer.ok ? await answer.json() : null;
      if (status?.state === "running") this.show(status);
      else if (status || answer.status === 404) this.end();
      else period = RETRY_PERIOD;
    } catch {
      period = RETRY_PERIOD;
      this.line.words.textContent = AWAY;
    } finally {
      this.asking = false;
    }
    if (!this.destroyed && !document.hidden) this.timer = setTimeout(() => this.poll(), period);
  }

  /** Tell the script; again, while it has not followed. */
  end() {
    const now = performance.now();
    if (pageIsBusy() || now - this.reportedAt < REPORT_PATIENCE) return;
    this.reportedAt = now;
    this.setStateValue("ended", Math.round(now)); // never the same as before
  }
}

export default mounted(Wait, (data) => data.job_id);
