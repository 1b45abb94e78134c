// The page "Logs": what the processes of a run have logged, filtered by the server, followed here.
//
// The filters stand in the page's address. Following means to stay at the end; who scrolls up
// pauses it, and nothing moves until the end is wanted again. Every text is set as text.

const LEVEL_CHOICES = [
  ["", "All levels"], ["INFO", "Info and above"], ["WARNING", "Warnings and errors"], ["ERROR", "Errors"],
];
const LEVEL_SYMBOLS = { DEBUG: "·", INFO: "i", WARNING: "▲", ERROR: "✕", CRITICAL: "✕" };
const MAX_SHOWN = 2000; // entries, while they are followed
const TYPED_PAUSE = 300;
const AT_END = 12; // pixels

class LogView extends PolledView {
  constructor(parent, runId) {
    super(parent, runId, "rg-logs", "log-view");
    this.cursor = null; // until the newest entries are here
    this.following = true;
    this.shown = 0;
  }

  /** What to ask for next: what has come, or with no cursor the newest. */
  path() {
    const query = new URLSearchParams(this.filters());
    if (this.cursor !== null) query.set("after", this.cursor);
    if (this.stands) query.set("stands", this.stands);
    this.asked = String(new URLSearchParams(this.filters()));
    return `log?${query}`;
  }

  take(update) {
    if (this.asked !== String(new URLSearchParams(this.filters()))) return this.again(); // changed meanwhile
    this.state = update.state;
    this.report(update.stands);
    if (update.reset) return this.again();
    if (update.entries === undefined) return this.count(); // only the state is news
    if (this.resting && this.cursor !== null) return; // it was asked for before following paused
    const first = this.cursor === null;
    this.cursor = update.cursor;
    this.size = update.size;
    this.offerProcesses(update.processes);
    if (first) {
      this.left = update.left;
      this.list.replaceChildren();
      this.shown = 0;
      this.lastNode = null;
    }
    this.append(update.entries);
    this.count();
  }

  /** Ask for the newest entries, from nothing. */
  again() {
    this.cursor = null;
    this.follow(true);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), 0);
  }

  // ---- building -----------------------------------------------------------------------------

  build() {
    const address = new URLSearchParams(location.search);
    this.level = this.selection("Level", LEVEL_CHOICES, address.get("level") ?? "");
    const process = address.get("process") ?? "";
    this.process = this.selection("Process", [["", "All processes"], ...(process ? [[process, inWords(process)]] : [])], process);
    this.text = element("input", "rg-field");
    this.text.type = "search";
    this.text.placeholder = "Text in the line";
    this.text.setAttribute("aria-label", "Text in the line");
    this.text.value = address.get("text") ?? "";
    this.text.oninput = () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.filter(), TYPED_PAUSE);
    };
    this.followButton = element("button", "rg-button", "Follow");
    this.followButton.type = "button";
    this.followButton.title = "Stay at the end of the log while it grows.";
    this.followButton.onclick = () => {
      const resumes = !this.following;
      this.follow(resumes);
      if (resumes) this.poll();
    };
    this.download = element("a", "rg-button", "↓ Download");
    this.download.title = "The whole file, without filters: of the coordinator, or of the worker that is chosen.";
    const bar = element("div", "rg-bar-of-filters");
    bar.setAttribute("role", "search");
    bar.setAttribute("aria-label", "filters of the log");
    bar.append(this.level, this.process, this.text, this.followButton, this.download);
    this.log = element("div", "rg-log rg-entries");
    this.log.tabIndex = 0;
    this.log.setAttribute("role", "log");
    this.log.setAttribute("aria-live", "off"); // it would be read aloud without end
    this.log.setAttribute("aria-label", "log of the run");
    this.log.dataset.testid = "log-entries";
    this.log.onscroll = () => this.scrolled();
    this.earlier = element("div", "rg-earlier");
    this.earlierText = element("span");
    this.earlierButton = element("button", "rg-button", "Show earlier lines");
    this.earlierButton.type = "button";
    this.earlierButton.onclick = () => this.goBack();
    this.earlier.append(this.earlierText, this.earlierButton);
    this.list = element("div");
    this.nothing = element("p", "rg-empty rg-nothing");
    this.log.append(this.earlier, this.list, this.nothing);
    this.note = element("p", "rg-shares");
    this.note.setAttribute("role", "status");
    this.note.dataset.testid = "log-note";
    this.root.append(bar, this.log, this.note);
    this.follow(true);
    this.pointDownload();
  }

  selection(label, choices, chosen) {
    const node = element("select", "rg-field");
    node.setAttribute("aria-label", label);
    fill(node, choices, chosen);
    node.onchange = () => this.filter();
    return node;
  }

  offerProcesses(processes) {
    const chosen = this.process.value;
    const choices = [["", "All processes"], ...processes.map(([name, words]) => [name, capital(words)])];
    if (chosen && !processes.some(([name]) => name === chosen)) choices.push([chosen, inWords(chosen)]);
    const key = JSON.stringify(choices);
    if (key === this.processKey) return;
    this.processKey = key;
    fill(this.process, choices, chosen);
  }

  filters() {
    const found = { level: this.level.value, process: this.process.value, text: this.text.value };
    return Object.fromEntries(Object.entries(found).filter(([, value]) => value));
  }

  /** The filters have changed: into the address, and begin anew. */
  filter() {
    clearTimeout(this.typing);
    const address = new URLSearchParams(location.search);
    for (const name of ["level", "process", "text"]) address.delete(name);
    for (const [name, value] of Object.entries(this.filters())) address.set(name, value);
    history.replaceState(history.state, "", `${location.pathname}?${address}`);
    this.pointDownload();
    this.again();
  }

  pointDownload() {
    const process = this.process.value.startsWith("worker") ? this.process.value : "";
    this.download.href = `/api/runs/${this.runId}/log/file?${new URLSearchParams({ process })}`;
    this.download.download = "";
  }

  // ---- the end of the log -------------------------------------------------------------------

  follow(wanted) {
    this.following = wanted;
    this.resting = !wanted; // nothing is asked for meanwhile
    this.followButton.setAttribute("aria-pressed", String(wanted));
    this.followButton.textContent = wanted ? "Following" : "Follow";
    if (wanted) this.toEnd();
    if (this.size !== undefined) this.count();
  }

  scrolled() {
    const end = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - AT_END;
    if (end === this.following || this.moving) return;
    this.follow(end);
    if (end) this.poll();
  }

  toEnd() {
    this.moving = true;
    this.log.scrollTop = this.log.scrollHeight;
    requestAnimationFrame(() => {
      this.moving = false;
    });
  }

  // ---- entries ------------------------------------------------------------------------------

  append(entries) {
    const nodes = [];
    for (const entry of entries) {
      if (!entry.level && this.lastNode) {
        // The rest of an entry that was being written.
        this.lastNode.querySelector(".rg-text").textContent += `\n${entry.text}`;
        continue;
      }
      this.lastNode = entryNode(entry);
      nodes.push(this.lastNode);
    }
    this.list.append(...nodes);
    this.shown += nodes.length;
    while (this.shown > MAX_SHOWN) {
      this.list.firstChild.remove();
      this.shown -= 1;
      this.trimmed = true;
    }
    markDays(this.list);
    if (this.following) this.toEnd();
  }

  /** Earlier entries, above those that are shown, which stay where they are. */
  async goBack() {
    if (this.goingBack || this.cursor === null) return;
    if (this.trimmed) { // what is shown does not begin where the cursor says
      this.trimmed = false;
      this.follow(false);
      return this.again();
    }
    this.goingBack = true;
    this.follow(false);
    try {
      const query = new URLSearchParams({ ...this.filters(), before: this.cursor });
      const asked = String(new URLSearchParams(this.filters()));
      const answer = await this.ask(`log?${query}`);
      if (answer.status !== 200 || asked !== String(new URLSearchParams(this.filters()))) return;
      const update = await answer.json();
      const before = this.log.scrollHeight - this.log.scrollTop;
      this.list.prepend(...update.entries.map(entryNode));
      this.shown += update.entries.length;
      this.cursor = update.cursor;
      this.left = update.left;
      markDays(this.list);
      this.count();
      this.moving = true;
      this.log.scrollTop = this.log.scrollHeight - before;
      requestAnimationFrame(() => {
        this.moving = false;
      });
    } catch (error) {
      this.offline.hidden = false;
    } finally {
      this.goingBack = false;
    }
  }

  /** What is shown, of how much, and whether there is more. */
  count() {
    const filtered = Object.keys(this.filters()).length > 0;
    const searched = this.size - this.left;
    this.earlier.hidden = !(this.left > 0);
    this.earlierText.textContent = filtered ? `Searched the last ${amount(searched)} of ${amount(this.size)}.` : "";
    this.earlierButton.textContent = filtered ? "Search further back" : "Show earlier lines";
    const parts = [];
    this.nothing.hidden = this.shown > 0;
    this.nothing.textContent = !filtered ? "Nothing was logged yet: the log begins when the run does."
      : this.left > 0 ? "No line fits the filters so far." : "No line of this log fits the filters.";
    if (this.shown) {
      parts.push(`${whole(this.shown)} ${this.shown === 1 ? "entry" : "entries"}${this.left > 0 || this.trimmed ? ", the newest" : ""}`);
    }
    if (this.size) parts.push(`log of ${amount(this.size)}`);
    if (!this.following) parts.push("following is paused: scroll to the end to go on");
    else if (NEVER_AGAIN.includes(this.state)) parts.push("the run has ended");
    const text = parts.length ? `${parts.join(" · ")}.` : "";
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}

function entryNode({ process, time, level, text }) {
  const node = element("div", "rg-entry");
  node.dataset.level = level || "INFO";
  node.dataset.day = time.slice(0, 10);
  const clockText = element("time", "", time ? time.slice(11) : "");
  clockText.title = time || "its own time was not noted";
  const mark = element("span", "rg-level", `${LEVEL_SYMBOLS[level] ?? "·"} ${(level || "").toLowerCase()}`);
  node.append(clockText, mark, element("span", "rg-process", process), element("span", "rg-text", text));
  return node;
}

/** The date above the first entry of each day. */
function markDays(list) {
  let last = "";
  for (const node of list.children) {
    const { day } = node.dataset;
    if (day) {
      node.classList.toggle("rg-new-day", day !== last);
      last = day;
    }
  }
}

function fill(node, choices, chosen) {
  node.replaceChildren(...choices.map(([value, label]) => {
    const option = element("option", "", label);
    option.value = value;
    return option;
  }));
  node.value = choices.some(([value]) => value === chosen) ? chosen : "";
}

function inWords(process) {
  return capital(process.replace(/^worker(\d)/, "worker $1"));
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function amount(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e8 ? 0 : 1)} MB`;
  return value >= 1000 ? `${Math.round(value / 1000)} kB` : `${value ?? 0} bytes`;
}

export default mounted(LogView);
