// Words over a bar that fills, and a button to break off.

class ProgressLine {
  constructor(words) {
    this.root = element("div", "rg-job");
    this.words = element("span", "rg-words", words);
    this.cancel = element("button", "rg-cancel", "Cancel");
    this.cancel.type = "button";
    const head = element("div", "rg-line");
    head.append(this.words, this.cancel);
    this.track = element("div", "rg-track");
    this.track.setAttribute("role", "progressbar");
    this.bar = element("div", "rg-bar");
    this.track.append(this.bar);
    this.root.append(head, this.track);
    this.show(0, words);
  }

  show(fraction, words) {
    if (this.words.textContent !== words) this.words.textContent = words;
    this.bar.style.width = `${(100 * fraction).toFixed(1)}%`;
    this.track.setAttribute("aria-label", words);
    this.track.setAttribute("aria-valuenow", Math.round(100 * fraction));
  }
}
