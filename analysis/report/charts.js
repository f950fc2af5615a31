// What charts share: Plotly, colours of the theme, axes, and the numbers beneath.

const CHARTS = {};
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage"]] };
const PRINTED = 690; // pixels that fit on a sheet
const NARROW = 560;
let ready = null; // resolves to Plotly
let printing = false;

// Plotly is kept packed in the page, in less than half of its size; null where it cannot be unpacked.
async function unpackPlotly() {
  if (!window.DecompressionStream) return null;
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  packed.remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(make("script", {}, await new Response(stream).text()));
  return window.Plotly;
}

// spec: controls (nodes above), figure(width) -> {traces, layout}, numbers() -> a table, and where
// there are any keys() -> nodes above the plot, below (nodes).
function chart(block, spec) {
  const plot = make("div", { class: "plot", role: "img", "aria-label": `${block.title}; the numbers follow as a table` });
  const numbers = make("div", {});
  const details = make("details", { ontoggle: showNumbers }, make("summary", {}, "Show the numbers"), numbers);
  const caption = make("figcaption", {}, block.title);
  const controls = spec.controls ? [make("div", { class: "controls" }, ...spec.controls)] : [];
  const keys = make("div", {});

  async function draw() {
    keys.replaceChildren(...(spec.keys ? spec.keys() : []));
    showNumbers();
    const Plotly = await ready;
    if (Plotly) await Plotly.react(plot, ...framed(spec.figure(width()), width()));
    else plot.replaceChildren(make("p", { class: "message" }, "Charts need a browser from 2023 or later; the numbers are below."));
    plot.dataset.drawn = "true";
  }

  function width() {
    return printing ? PRINTED : plot.clientWidth || 800;
  }

  function showNumbers() {
    if (details.open) numbers.replaceChildren(scrolling(table({ caption: block.title, ...spec.numbers() }), "numbers"));
  }

  spec.update = draw;
  drawings.push(draw);
  return make("figure", {}, caption, ...controls, keys, plot, ...(spec.below || []), details);
}

function framed({ traces, layout }, width) {
  const colours = themeColours();
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colours.ink };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font, showlegend: false,
    hoverlabel: { font: { family: font.family, size: 12.5, color: colours.ink }, bgcolor: colours.raised, bordercolor: colours.rule, align: "left" },
    margin: { l: 60, r: 16, t: 12, b: 48 }, width: printing ? width : undefined, autosize: !printing, dragmode: false,
  };
  return [traces, { ...base, ...layout }, CONFIG];
}

function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { page: of("page"), raised: of("raised"), ink: of("ink"), quiet: of("quiet"), rule: of("rule"), band: Number(of("band")) };
}

// A colour as it is seen best: on a dark page dark ones are mixed with white.
function shown(colour) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const light = (0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2]) / 255;
  const mix = isDark() && !printing ? Math.max(0, 0.62 - light) : 0;
  return parts.map((part) => Math.round(part + (255 - part) * mix));
}

function solid(colour) {
  return `rgb(${shown(colour).join(",")})`;
}

function faint(colour, opacity) {
  return `rgba(${shown(colour).join(",")},${opacity})`;
}

function axis(title, more = {}) {
  const { rule, quiet } = themeColours();
  return {
    title: { text: title, standoff: 10, font: { size: 12.5 } }, gridcolor: rule, zerolinecolor: quiet, zerolinewidth: 1, linecolor: rule,
    ticks: "", automargin: true, fixedrange: true, ...more,
  };
}

// What tells names apart is mostly at their ends: the middle is left out.
function shorten(words, most) {
  const head = Math.ceil(most / 3);
  return words.length > most ? `${words.slice(0, head)}…${words.slice(words.length - (most - head - 1))}` : words;
}

// Plotly reads a few tags in its texts: they are taken apart, so that a text is shown as it is.
function plain(words) {
  return String(words).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function reach(scores) {
  const upper = scores.map(([value, , high]) => (value === null || high === null ? 0 : Math.max(high - value, 0)));
  const lower = scores.map(([value, low]) => (value === null || low === null ? 0 : Math.max(value - low, 0)));
  return { type: "data", symmetric: false, array: upper, arrayminus: lower, thickness: 1.2, width: 0 };
}

function drawing(width, ...nodes) {
  const of = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
    return node;
  };
  const svg = of("svg", { width, height: 12, "aria-hidden": "true" });
  svg.append(...nodes.map(([tag, attributes]) => of(tag, attributes)));
  return svg;
}

// The look of a line in a table, as in the chart.
function swatch(look) {
  const dashes = { solid: "", dash: "6 4", dashdot: "7 3 2 3", dot: "2 3", longdash: "10 4", longdashdot: "10 3 2 3" };
  return drawing(34, ["line", { x1: 1, y1: 6, x2: 33, y2: 6, stroke: solid(look.colour), "stroke-width": 2.4, "stroke-dasharray": dashes[look.dash] }]);
}

const SHAPES = {
  circle: "M6 2a4 4 0 1 0 .01 0Z", "triangle-up": "M6 1.5 10.5 10H1.5Z", "diamond-open": "M6 1.5 10.5 6 6 10.5 1.5 6Z",
  "line-ns-open": "M6 1V11", "x-thin-open": "M2 2 10 10M10 2 2 10", bar: "M1 1H11V11H1Z", "line-open": "M0 6H22", "dashes-open": "M0 6H6M9 6H15M18 6H22",
};

// What signs mean: [{name, colour, symbol}], in words after a title.
function key(title, signs) {
  const items = signs.map(({ name, colour, symbol, pattern }) => {
    const open = symbol.endsWith("open");
    const parts = [["path", { d: SHAPES[symbol], stroke: solid(colour), fill: open ? "none" : solid(colour), "stroke-width": open ? 1.5 : 0.5 }]];
    const hatch = { "/": "M1 11 11 1M1 6 6 1M6 11 11 6", x: "M1 11 11 1M1 1 11 11" }[pattern];
    if (hatch) parts.push(["path", { d: hatch, stroke: themeColours().page, "stroke-width": 1.2 }]);
    return make("li", {}, drawing(/^(line|dashes)-open/.test(symbol) ? 22 : 12, ...parts), name);
  });
  const first = title ? [make("li", { class: "title" }, title)] : [];
  return make("ul", { class: "key" }, ...first, ...items);
}

// Scores with intervals, one row each, grouped by scenario.
CHARTS.dots = ({ views, x }) => {
  let view = views[0];
  const spec = {
    controls: views.length > 1 ? [choiceOf("Score", views.map((own) => own.name), (at) => { view = views[at]; spec.update(); })] : null,
    figure: dots,
    numbers: () => ({
      columns: ["scenario", "config", "score [95 %]", "n"], names: 2,
      rows: view.rows.map((row) => [row.group, row.label, withInterval(row.score), row.n]),
    }),
  };
  return spec;

  function dots(width) {
    const rows = [...view.rows].reverse();
    const groups = new Set(rows.map((row) => row.group));
    const most = width < NARROW ? 20 : 44;
    const names = rows.map((row) => plain(shorten(groups.size > 1 ? `${row.group}  ${row.label}` : row.label, most)));
    const trace = {
      type: "scatter", mode: "markers", x: rows.map((row) => row.score[0]), y: rows.map((_, at) => at),
      error_x: { ...reach(rows.map((row) => row.score)), color: themeColours().quiet },
      marker: { size: 9, color: rows.map((row) => solid(row.look.colour)), symbol: rows.map((row) => row.look.symbol) },
      text: rows.map((row) => plain(`${row.group}, ${row.label}: ${withInterval(row.score)}, n = ${row.n}`)), hoverinfo: "text",
    };
    const ticks = { tickvals: rows.map((_, at) => at), ticktext: names, range: [-0.7, rows.length - 0.3], zeroline: false };
    const spans = x.startsWith("difference") ? {} : { zeroline: false };
    return { traces: [trace], layout: { height: 84 + 26 * rows.length, xaxis: axis(x, spans), yaxis: axis("", ticks) } };
  }
};
