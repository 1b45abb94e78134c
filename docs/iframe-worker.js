// Browsers start no worker from a file: there the search runs in a hidden frame instead.
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const page = this.frame.contentDocument;
      page.open(); // once it is written to, no browser puts another empty page in its place
      page.write("<!doctype html><body>");
      page.close();
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => tell(this, data);
      inside.importScripts = (...sources) => Promise.all(sources.map((each) => this.load(each)));
      this.addEventListener("message", (event) => this.onmessage?.(event));
      this.ready = this.load(address);
    }

    load(source) {
      const script = this.frame.contentDocument.createElement("script");
      script.src = source;
      this.frame.contentDocument.body.append(script);
      return new Promise((resolve) => script.addEventListener("load", resolve));
    }

    postMessage(data) {
      this.ready.then(() => tell(this.frame.contentWindow, data));
    }

    terminate() {
      this.frame.remove();
    }
  }

  const tell = (target, data) =>
    setTimeout(() => target.dispatchEvent(new MessageEvent("message", {data: structuredClone(data)})));

  window.Worker = FrameWorker;
})();
