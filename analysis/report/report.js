// Makes the page from its data. Texts are set as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const drawings = []; // functions that draw a chart again, as in another theme or width
let serial = 0;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function newId(name) {
  serial += 1;
  return `${name}-${serial}`;
}

const BLOCKS = {
  text: (block) => make("p", { class: "words" }, block.text),
  facts: (block) =>
    make("dl", {}, ...block.rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
  table: (block) =>
    make("div", { class: "block" }, scrolling(table(block)), ...block.notes.map((note) => make("p", { class: "note" }, note))),
  code: codeBlock,
  chart: (block) => chart(block, CHARTS[block.chart](block.data)),
};

function table({ caption, columns, rows, names = 1 }) {
  const kind = (place) => (place < names ? "word" : "number");
  const head = columns.map((name, at) => make("th", { scope: "col", class: kind(at) }, name));
  const body = rows.map((row) =>
    make("tr", {}, ...row.map((cell, at) =>
      make(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, class: kind(at) }, written(cell)))));
  return make("table", {},
    ...(caption ? [make("caption", {}, caption)] : []),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

// A wide table scrolls by itself, also by keyboard.
function scrolling(inner, name = "scroll") {
  const label = inner.caption ? inner.caption.textContent : "Table";
  return make("div", { class: name, tabindex: 0, role: "region", "aria-label": label }, inner);
}

function written(value) {
  if (value === null || value === undefined) return "–";
  if (value instanceof Node) return value;
  return typeof value === "number" ? value.toLocaleString("en", { maximumSignificantDigits: 6 }) : String(value);
}

function fixed(value) {
  return value === null || value === undefined ? "–" : value.toFixed(1);
}

// 47.3 [41.9, 52.3]
function withInterval([value, low, high]) {
  if (value === null) return "–";
  return low === null ? fixed(value) : `${fixed(value)} [${fixed(low)}, ${fixed(high)}]`;
}

function codeBlock({ text, title }) {
  const said = make("span", { role: "status" }, "Copy");
  const copy = async () => {
    const done = await copied(text);
    said.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { said.textContent = "Copy"; }, 2000);
  };
  const pre = make("pre", { tabindex: 0, class: text.includes("\n") ? "long" : null }, text);
  const button = make("button", { type: "button", "aria-label": `Copy: ${title || text}`, onclick: copy }, said);
  return make("div", { class: "code" }, ...(title ? [make("p", {}, title)] : []), pre, button);

  // A page opened from a file may lack the clipboard; then the text is selected.
  async function copied(words) {
    try {
      await navigator.clipboard.writeText(words);
      return true;
    } catch {
      getSelection().selectAllChildren(pre);
      return false;
    }
  }
}

function selectOf(label, options, onchange) {
  const id = newId("select");
  const choices = options.map((name, at) => make("option", { value: at }, name));
  const select = make("select", { id, onchange: () => onchange(Number(select.value)) }, ...choices);
  return make("div", { class: "field" }, make("label", { for: id }, label), select);
}

// A few choices side by side: radio buttons, hence arrows move among them.
function choiceOf(legend, options, onchange) {
  const name = newId("choice");
  const labels = options.map((words, at) =>
    make("label", {},
      make("input", { type: "radio", name, value: at, checked: at === 0, onchange: () => onchange(at) }), words));
  return make("fieldset", {}, make("legend", {}, legend), make("div", { class: "choices" }, ...labels));
}

function build() {
  document.body.prepend(frame());
  watchSections();
}

function frame() {
  const sections = data.sections.map((part) =>
    make("section", { id: part.id, "aria-labelledby": `${part.id}-title` },
      make("h2", { id: `${part.id}-title` }, part.title),
      make("p", { class: "how" }, part.how.replaceAll(" %", "\u00a0%")),
      ...part.blocks.map((block) => BLOCKS[block.kind](block))));
  const links = data.sections.map((part) =>
    make("li", {}, make("a", { href: `#${part.id}` }, part.title)));
  const titles = make("div", {}, make("h1", {}, data.title), make("p", { class: "subtitle" }, data.subtitle));
  return make("div", { class: "frame" },
    make("a", { class: "skip", href: "#main" }, "Skip to the content"),
    make("header", {}, titles, themeButton()),
    make("nav", { "aria-label": "Sections" }, make("ol", {}, ...links)),
    make("main", { id: "main", tabindex: -1 }, ...sections));
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeButton() {
  const words = () => (isDark() ? "Light theme" : "Dark theme");
  const button = make("button", { type: "button", class: "theme", onclick: toggle }, words());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);
  return button;

  function toggle() {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    renew();
  }

  function renew() {
    button.textContent = words();
    drawAll();
  }
}

function drawAll() {
  drawings.forEach((draw) => draw());
}

// The link of the section that is read is underlined.
function watchSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((part) => watcher.observe(part));
}
