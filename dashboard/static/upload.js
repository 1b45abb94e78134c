// A drop zone that streams a file to /api/upload and says how far it is.
// The file never passes through the page's session, so its size does not matter to the server.

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let zone = parentElement.querySelector(".rg-upload");
  if (!zone) {
    zone = buildZone();
    parentElement.append(zone);
  }
  zone.limit = data.limit;
  zone.querySelector(".rg-title").textContent = data.title;
  zone.querySelector(".rg-hint").textContent = data.hint;
  zone.send = (file) => sendFile(zone, file, setTriggerValue);
}

function buildZone() {
  const zone = element("div", "rg-upload");
  const label = element("label", "rg-drop");
  const input = element("input");
  input.type = "file";
  input.accept = ".csv,.tsv,.txt,.data,.gz,.zip,text/csv,text/plain";
  input.dataset.testid = "upload-input";
  const icon = element("span", "rg-icon", "⇪");
  icon.setAttribute("aria-hidden", "true");
  const texts = element("span", "rg-texts");
  texts.append(element("strong", "rg-title"), element("span", "rg-hint"));
  label.append(input, icon, texts);
  const state = element("div", "rg-state");
  state.setAttribute("role", "status");
  state.hidden = true;
  zone.append(label, state);
  input.onchange = () => {
    if (input.files.length) zone.send(input.files[0]);
    input.value = "";
  };
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("rg-over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.remove("rg-over");
    });
  }
  zone.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length) zone.send(event.dataTransfer.files[0]);
  });
  return zone;
}

function sendFile(zone, file, setTriggerValue) {
  zone.request?.abort();
  const show = showSending(zone, file);
  if (file.size > zone.limit) {
    show.fail(
      `${file.name} has ${bytes(file.size)}; an upload may have ${bytes(zone.limit)}. ` +
        "Let the page read it where it lies (regatta serve --data-root FOLDER), or train on it from a " +
        "terminal (regatta train FILE --target COLUMN).",
    );
    return;
  }
  const request = new XMLHttpRequest();
  zone.request = request;
  show.cancel.onclick = () => request.abort();
  request.open("POST", `/api/upload?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("X-Regatta-Request", "upload");
  request.setRequestHeader("Content-Type", "application/octet-stream");
  const started = performance.now();
  request.upload.onprogress = (event) => {
    const seconds = (performance.now() - started) / 1000;
    show.progress(event.loaded, file.size, seconds > 1 ? event.loaded / seconds : null);
  };
  request.onload = () => {
    const answer = parse(request.responseText);
    if (request.status === 200) {
      show.done();
      setTriggerValue("uploaded", answer);
    } else {
      const { message, hint } = answer?.error ?? { message: "The upload failed.", hint: "Try it again." };
      show.fail(`${message} ${hint}`.trim());
    }
  };
  request.onerror = () => show.fail("The connection broke off. Try it again.");
  request.onabort = () => show.fail("Upload cancelled.");
  request.send(file);
}

function showSending(zone, file) {
  const state = zone.querySelector(".rg-state");
  const line = new ProgressLine(`Sending ${file.name}`);
  state.replaceChildren(line.root);
  state.hidden = false;
  state.classList.remove("rg-failed");
  return {
    cancel: line.cancel,
    progress(loaded, size, speed) {
      const pace = speed ? ` · ${bytes(speed)}/s · ${clock((size - loaded) / speed)} left` : "";
      line.show(loaded / size, `Sending ${file.name}: ${bytes(loaded)} of ${bytes(size)}${pace}`);
    },
    done() {
      line.show(1, `${file.name} is here.`);
      line.cancel.remove();
    },
    fail(message) {
      state.replaceChildren(message);
      state.classList.add("rg-failed");
    },
  };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
