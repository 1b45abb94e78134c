// The columns of a file: whether each is used, its kind, its gaps, how its values are spread.

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let box = parentElement.querySelector(".rg-columns");
  if (!box) {
    box = element("div", "rg-columns");
    box.tabIndex = 0; // it scrolls, and must be reached without a mouse
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Columns");
    parentElement.append(box);
  }
  box.tell = (change) => setTriggerValue("changed", change);
  const said = JSON.stringify(data);
  if (said === box.said) return; // what is open or focused stays as it is
  box.said = said;
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  const table = element("table");
  const body = element("tbody");
  body.append(...data.rows.map((row) => columnRow(row, box)));
  table.append(tableHead(), body);
  box.replaceChildren(table);
  if (focused) box.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function tableHead() {
  const head = element("thead");
  const row = element("tr");
  for (const [name, text, help] of [
    ["use", "Use", "Whether the model may learn from it."],
    ["name", "Column", "Its name, and below it what was found in its cells."],
    ["kind", "Kind", "As what it is read. A category becomes one column of 0 and 1 for each of its values."],
    ["missing", "Missing", "Cells without a value. Each takes the median of its column, or counts as a category of its own."],
    ["distinct", "Distinct", "How many different values it has."],
    ["spread", "Values", "How its values are spread."],
  ]) {
    const cell = element("th", `rg-${name}`, text);
    cell.scope = "col";
    cell.title = help;
    row.append(cell);
  }
  head.append(row);
  return head;
}

function columnRow(row, box) {
  const line = element("tr", row.used ? "" : "rg-out");
  line.dataset.column = row.name;
  line.append(
    useCell(row, box),
    nameCell(row),
    kindCell(row, box),
    countCell("missing", row.missing, row.share),
    countCell("distinct", row.distinct, ""),
    spreadCell(row),
  );
  return line;
}

function useCell(row, box) {
  const cell = element("td", "rg-use");
  if (row.target) {
    cell.append(element("span", "rg-target", "target"));
    return cell;
  }
  const use = element("input");
  use.type = "checkbox";
  use.checked = row.used;
  use.disabled = Boolean(row.unusable);
  use.title = row.unusable || (row.used ? "Leave this column out" : "Use this column");
  use.setAttribute("aria-label", `Use ${row.name}`);
  use.dataset.focus = `use ${row.name}`;
  use.onchange = () => box.tell({ name: row.name, used: use.checked });
  cell.append(use);
  return cell;
}

function nameCell(row) {
  const cell = element("th", "rg-name");
  cell.scope = "row";
  const why = element("span", "rg-why", row.evidence);
  why.title = row.evidence;
  cell.append(element("strong", "", row.name), why);
  return cell;
}

function kindCell(row, box) {
  const cell = element("td", "rg-kind");
  const choice = element("select");
  choice.setAttribute("aria-label", `Kind of ${row.name}`);
  choice.dataset.focus = `kind ${row.name}`;
  for (const [value, text] of row.kinds) {
    const option = element("option", "", text);
    option.value = value;
    option.selected = value === row.chosen;
    choice.append(option);
  }
  choice.classList.toggle("rg-forced", row.forced);
  choice.onchange = () => box.tell({ name: row.name, kind: choice.value });
  cell.append(choice);
  return cell;
}

function countCell(name, text, note) {
  const cell = element("td", `rg-${name}`, text);
  if (note) cell.append(element("span", "rg-note", note));
  return cell;
}

function spreadCell(row) {
  const cell = element("td", "rg-spread");
  if (row.bars.length) cell.append(drawnBars(row.bars, row.drawn, row.ends));
  const words = element("span", "rg-words");
  words.title = row.values.join(" · ");
  words.append(...row.values.map((text) => element("span", "", text)));
  cell.append(words);
  return cell;
}

/**
 * Bars of [count, words, whether it stands for all others]. One that counts anything can be seen;
 * all others together may be more than fit. They fill the width only if its ends mean something.
 */
function drawnBars(bars, label, ends) {
  const [width, height] = [144, 26];
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", label);
  const most = Math.max(...bars.map(([count, , rest]) => (rest ? 0 : count)), 1);
  const step = width / Math.max(bars.length, ends ? 2 : 11);
  bars.forEach(([count, words, rest], place) => {
    const tall = count ? Math.min(Math.max((height * count) / most, 1.5), height) : 0;
    const bar = shape("rect", {
      x: place * step + 0.5,
      y: height - tall,
      width: Math.max(step - 1, 1),
      height: tall,
      class: rest ? "rg-rest" : "",
    });
    const title = shape("title", {});
    title.textContent = words;
    bar.append(title);
    svg.append(bar);
  });
  return svg;
}

function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
