// Each class: its score in the three states, and what each modality contributes.

const STATES = [
  { name: "both", colour: "#444b53", symbol: "circle" },
  { name: "image only", colour: "#0072b2", symbol: "triangle-up" },
  { name: "table only", colour: "#d55e00", symbol: "diamond-open" },
];
const SHARES = [
  { id: "image", name: "image", colour: "#0072b2", symbol: "bar", pattern: "" },
  { id: "tabular", name: "table", colour: "#d55e00", symbol: "bar", pattern: "/" },
  { id: "interaction", name: "interaction", colour: "#7d8590", symbol: "bar", pattern: "x" },
];
const GUESS = { name: "a guess", colour: "#59636e", symbol: "line-ns-open" };

CHARTS.classes = ({ score, lines }) => {
  let line = lines[0];
  const several = new Set(lines.map((own) => own.trained)).size > 1;
  const names = lines.map((own) => (several ? `${own.trained}: ${own.label}` : own.label));
  const choice = lines.length > 1 ? [selectOf("Config", names, (place) => { line = lines[place]; spec.update(); })] : [];
  const keys = () => [key("Points:", [...STATES, GUESS]), key("Bars:", SHARES)];
  const spec = { controls: choice.length ? choice : null, figure, numbers, keys };
  return spec;

  function figure(width) {
    const wide = width >= 760;
    const order = line.names.map((_, at) => line.names.length - 1 - at); // the mean on top
    const most = wide ? 26 : 12;
    const labels = line.names.map((name, at) => plain(`${shorten(at ? name : "mean", most)} (${line.counts[at].toLocaleString("en")})`));
    const one = 40 + 34 * line.names.length;
    const domains = wide ? { left: [0, 0.46], right: [0.54, 1], y1: [0, 1], y2: [0, 1] } : { left: [0, 1], right: [0, 1], y1: [0.56, 1], y2: [0, 0.44] };
    const ticks = { tickvals: order, ticktext: labels, range: [-0.7, line.names.length - 0.3], zeroline: false, showgrid: true };
    const layout = {
      height: (wide ? one : 2 * one + 60) + 70, barmode: "group", bargap: 0.25, margin: { l: 60, r: 16, t: 8, b: 48 },
      xaxis: axis(`${score} (%)`, { domain: domains.left, zeroline: false }),
      xaxis2: axis("contribution (points)", { domain: domains.right, anchor: "y2" }),
      yaxis: axis("", { ...ticks, domain: domains.y1 }),
      yaxis2: axis("", { ...ticks, domain: domains.y2, anchor: "x2", showticklabels: !wide }),
    };
    return { traces: [...points(order), ...bars(order)], layout };
  }

  function points(order) {
    const { quiet } = themeColours();
    const guess = {
      type: "scatter", mode: "markers", x: line.nothing, y: order, hoverinfo: "text",
      marker: { symbol: GUESS.symbol, size: 12, color: quiet, line: { width: 1.5 } },
      text: line.names.map((name, at) => plain(`${name}: a guess ${fixed(line.nothing[at])}`)),
    };
    const states = STATES.map(({ name, colour, symbol }, place) => ({
      type: "scatter", mode: "markers", x: line.states[name].map((own) => own[0]),
      y: order.map((at) => at + 0.22 - 0.22 * place), hoverinfo: "text",
      error_x: { ...reach(line.states[name]), color: faint(colour, 0.6) }, marker: { symbol, size: 8, color: solid(colour) },
      text: line.names.map((own, at) => plain(`${own}, ${name}: ${withInterval(line.states[name][at])}`)),
    }));
    return [...states, guess];
  }

  function bars(order) {
    const { quiet } = themeColours();
    return [...SHARES].reverse().map(({ id, name, colour, pattern }) => ({ // the first of a group lies lowest
      type: "bar", orientation: "h", xaxis: "x2", yaxis: "y2", hoverinfo: "text", textposition: "none",
      x: line.shares[id].map((own) => own[0]), y: order, error_x: { ...reach(line.shares[id]), color: quiet },
      marker: { color: solid(colour), pattern: { shape: pattern, fillmode: "overlay", fgcolor: themeColours().page, fgopacity: 1, size: 5, solidity: 0.25 } },
      text: line.names.map((own, at) => plain(`${own}, ${name}: ${withInterval(line.shares[id][at])}`)),
    }));
  }

  function numbers() {
    const columns = ["class", "n", "a guess", ...STATES.map((state) => `${state.name} [95 %]`), ...SHARES.map((share) => `${share.name} [95 %]`)];
    const rows = line.names.map((name, at) => [
      name, line.counts[at], fixed(line.nothing[at]),
      ...STATES.map((state) => withInterval(line.states[state.name][at])),
      ...SHARES.map((share) => withInterval(line.shares[share.id][at])),
    ]);
    return { columns, rows };
  }
};
