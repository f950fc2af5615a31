// What a search tried: importances, slices, and lines through all hyperparameters.

const RUNS = {
  complete: { colour: "#0072b2", symbol: "circle" },
  pruned: { colour: "#7d8590", symbol: "x-thin-open" },
  failed: { colour: "#d55e00", symbol: "triangle-up" },
};
const BEST = "#d7191c";
const PAPER = "#1c2126";

CHARTS.importances = ({ views }) => {
  let view = views[0];
  const spec = {
    controls: views.length > 1 ? [selectOf("Scenario", views.map((own) => own.name), (at) => { view = views[at]; spec.update(); })] : null,
    keys: () => [key(`n = ${view.n} configs`, [{ name: "PED-ANOVA", colour: "#0072b2", symbol: "bar" }, { name: "fANOVA", colour: "#7d8590", symbol: "bar", pattern: "/" }])],
    figure,
    numbers: () => ({ columns: ["hyperparameter", "PED-ANOVA % [95 %]", "fANOVA %", "n"], rows: view.rows.map((row) => [row.name, withInterval(row.ped_anova), fixed(row.fanova), row.n]) }),
  };
  return spec;

  function figure() {
    const rows = [...view.rows].sort((a, b) => a.ped_anova[0] - b.ped_anova[0]);
    const place = rows.map((_, at) => at);
    const bar = { type: "bar", orientation: "h", y: place, hoverinfo: "text", textposition: "none" };
    const pattern = { shape: "/", fillmode: "overlay", fgcolor: themeColours().page, fgopacity: 1, size: 5, solidity: 0.25 };
    const traces = [
      { ...bar, x: rows.map((row) => row.fanova), marker: { color: solid("#7d8590"), pattern }, text: rows.map((row) => plain(`${row.name}, fANOVA: ${fixed(row.fanova)} %`)) },
      { ...bar, x: rows.map((row) => row.ped_anova[0]), marker: { color: solid("#0072b2") }, error_x: { ...reach(rows.map((row) => row.ped_anova)), color: themeColours().quiet }, text: rows.map((row) => plain(`${row.name}, PED-ANOVA: ${withInterval(row.ped_anova)} %`)) },
    ];
    const ticks = { tickvals: place, ticktext: rows.map((row) => plain(row.name)), zeroline: false };
    return { traces, layout: { height: 70 + 42 * rows.length, barmode: "group", bargap: 0.3, xaxis: axis("share (%)"), yaxis: axis("", ticks) } };
  }
};

let tried = null; // what slices have: the lines through all hyperparameters are of the same runs

// The runs of a scenario: [{trial, state, score, of}], `of` by hyperparameter.
function runsOf({ columns, axes }, scenario) {
  return columns.trial.flatMap((trial, at) => (columns.scenario[at] !== scenario ? [] : [{
    trial, state: columns.state[at], score: columns.score[at], of: Object.fromEntries(axes.map(({ name }) => [name, columns[name][at]])),
  }]));
}

function bestOf(runs) {
  const whole = runs.filter((run) => run.state === "complete");
  return whole.reduce((best, run) => (best === null || run.score[0] > best.score[0] ? run : best), null);
}

function keyOfRuns(states, drawnAs) {
  const { best, paper } = { points: { best: "circle", paper: "diamond-open" }, lines: { best: "line-open", paper: "dashes-open" } }[drawnAs];
  const signs = states.map((state) => ({ name: state, ...RUNS[state], ...(drawnAs === "lines" && state === "complete" ? { symbol: "line-open" } : {}) }));
  return key("", [...signs, { name: "best", colour: BEST, symbol: best }, { name: "the paper's point", colour: PAPER, symbol: paper }]);
}

function numbersOfRuns(runs, axes) {
  const rows = [...runs].sort((a, b) => b.score[0] - a.score[0]).slice(0, 200);
  return {
    columns: ["trial", "state", "score [95 %]", ...axes.map(({ name }) => name)], names: 2,
    rows: rows.map((run) => [String(run.trial), run.state, withInterval(run.score), ...axes.map(({ name }) => run.of[name])]),
  };
}

CHARTS.slices = (found) => {
  tried = found;
  const { axes, scenarios, y } = found;
  let runs = runsOf(found, scenarios[0]);
  const spec = {
    controls: scenarios.length > 1 ? [selectOf("Scenario", scenarios, (at) => { runs = runsOf(found, scenarios[at]); spec.update(); })] : null,
    keys: () => [keyOfRuns(["complete", "pruned"], "points")],
    figure, numbers: () => numbersOfRuns(runs, axes),
  };
  return spec;

  function figure(width) {
    const across = Math.max(1, Math.min(axes.length, Math.floor(width / 255)));
    const down = Math.ceil(axes.length / across);
    const layout = { height: 40 + 230 * down, margin: { l: 56, r: 12, t: 10, b: 46 } };
    const traces = [];
    axes.forEach((one, at) => {
      const suffix = at ? at + 1 : "";
      const [column, row] = [at % across, Math.floor(at / across)];
      const first = column === 0;
      layout[`xaxis${suffix}`] = { ...axis(one.name, { ...scale(one), domain: span(column, across, 0.035), anchor: `y${suffix}`, automargin: false }) };
      layout[`yaxis${suffix}`] = { ...axis(first ? y : "", { domain: span(down - 1 - row, down, down > 1 ? 62 / (230 * down) : 0), anchor: `x${suffix}`, showticklabels: first, matches: at ? "y" : undefined, zeroline: false }) };
      if (first) layout[`yaxis${suffix}`].title.font.size = 11;
      traces.push(...points(one.name, suffix));
    });
    return { traces, layout };
  }

  function points(name, suffix) {
    const best = bestOf(runs);
    const paper = runs.filter((run) => run.trial === 0);
    const of = (own, marker) => ({
      type: "scatter", mode: "markers", x: own.map((run) => run.of[name]), y: own.map((run) => run.score[0]), xaxis: `x${suffix}`, yaxis: `y${suffix}`,
      marker, hoverinfo: "text", text: own.map((run) => plain(`trial ${run.trial}, ${run.state}: ${withInterval(run.score)}\n${name} = ${written(run.of[name])}`).replace("\n", "<br>")),
    });
    const groups = ["pruned", "complete"].map((state) => {
      const { colour, symbol } = RUNS[state];
      const opacity = state === "complete" ? 0.75 : 0.55;
      return of(runs.filter((run) => run.state === state), { color: solid(colour), symbol, size: runs.length > 300 ? 4 : 6, opacity, line: { width: state === "pruned" ? 1.2 : 0, color: solid(colour) } });
    });
    return [...groups, of(paper, { symbol: "diamond-open", size: 10, color: themeColours().ink, line: { width: 1.8 } }), of(best ? [best] : [], { symbol: "circle", size: 10, color: solid(BEST) })];
  }
};

function scale({ log, choices }) {
  if (choices) return { type: "category", categoryorder: "array", categoryarray: choices, tickangle: 0, zeroline: false };
  if (!log) return { nticks: 5, zeroline: false };
  const powers = Array.from({ length: 13 }, (_, at) => at - 8);
  return { type: "log", tickvals: powers.map((power) => 10 ** power), ticktext: powers.map((power) => String(Number(`1e${power}`))), zeroline: false };
}

function span(place, count, gap) {
  const room = (1 - gap * (count - 1)) / count;
  return [place * (room + gap), place * (room + gap) + room];
}

// Lines as plain drawings: they print, and need no WebGL.
CHARTS.parallel = () => {
  const { axes, scenarios, y } = tried;
  const shares = [1, 0.5, 0.25, 0.1];
  let [scenario, share] = [0, 0];
  const spec = {
    controls: [
      ...(scenarios.length > 1 ? [selectOf("Scenario", scenarios, (at) => { scenario = at; spec.update(); })] : []),
      choiceOf("Runs", ["all", "best half", "best quarter", "best tenth"], (at) => { share = at; spec.update(); }),
    ],
    keys: () => [keyOfRuns(["complete"], "lines")],
    figure, numbers: () => numbersOfRuns(kept(), axes),
  };
  return spec;

  function kept() {
    const whole = runsOf(tried, scenarios[scenario]).filter((run) => run.state === "complete");
    whole.sort((a, b) => a.score[0] - b.score[0]); // the best on top
    return whole.slice(whole.length - Math.max(1, Math.ceil(whole.length * shares[share])));
  }

  function figure(width) {
    const runs = kept();
    const all = runsOf(tried, scenarios[scenario]).filter((run) => run.state === "complete").map((run) => run.score[0]);
    const value = { name: y, range: [Math.min(...all), Math.max(...all)], score: true };
    const ladder = [...axes, value];
    const { rule, ink, quiet, page } = themeColours();
    const narrow = width < NARROW;
    const best = runs.at(-1);
    const lines = runs.map((run) => {
      const [paper, first] = [run.trial === 0, run === best];
      const place = (run.score[0] - value.range[0]) / (value.range[1] - value.range[0] || 1);
      const along = ladder.map((own, at) => height(own, own.score ? run.score[0] : run.of[own.name], at));
      const across = ladder.map((_, at) => at);
      return {
        type: "scatter", mode: "lines", x: narrow ? along : across, y: narrow ? across.map((at) => -at) : along, hoverinfo: "text",
        line: { width: first || paper ? 2.6 : 1.1, color: first ? solid(BEST) : paper ? ink : faint(RUNS.complete.colour, 0.15 + 0.65 * place), dash: paper && !first ? "dash" : "solid" },
        text: ladder.map((own) => plain(`trial ${run.trial}: ${withInterval(run.score)}; ${own.score ? "score" : own.name} = ${written(own.score ? run.score[0] : run.of[own.name])}`)),
      };
    });
    const rails = ladder.map((_, at) => (narrow
      ? { type: "line", y0: -at, y1: -at, x0: 0, x1: 1, layer: "below", line: { color: quiet, width: 1 } }
      : { type: "line", x0: at, x1: at, y0: 0, y1: 1, layer: "below", line: { color: quiet, width: 1 } }));
    const label = (words, at, end, more) => ({ text: plain(words), showarrow: false, font: { size: 11 }, bgcolor: page, x: narrow ? end : at, y: narrow ? -at : end, ...more });
    const ends = ladder.flatMap((own, at) => {
      const [low, high] = own.choices ? [own.choices[0], own.choices.at(-1)] : own.range.map((end) => written(own.score ? Math.round(10 * end) / 10 : end));
      return narrow
        ? [label(low, at, 0, { yshift: -10, xanchor: "left" }), label(high, at, 1, { yshift: -10, xanchor: "right" })]
        : [label(low, at, 0, { yshift: -12 }), label(high, at, 1, { yshift: 12 })];
    });
    const names = ladder.map((own, at) => (narrow
      ? label(own.score ? y : own.name, at, 0.5, { yshift: 12, font: { size: 11.5, color: ink } })
      : label(own.score ? "score (%)" : own.name, at, 1, { yshift: at % 2 && width < 900 ? 46 : 30, font: { size: 11.5, color: ink } })));
    const hide = { visible: false, fixedrange: true, gridcolor: rule };
    return {
      traces: lines,
      layout: {
        height: narrow ? 60 + 58 * ladder.length : 390, margin: narrow ? { l: 12, r: 12, t: 26, b: 26 } : { l: 46, r: 46, t: 62, b: 30 }, hovermode: "closest",
        xaxis: { ...hide, range: narrow ? [0, 1] : [0, ladder.length - 1] }, yaxis: { ...hide, range: narrow ? [-(ladder.length - 1) - 0.15, 0.15] : [0, 1] },
        shapes: rails, annotations: [...ends, ...names],
      },
    };
  }

  // Where a value lies in its range, on its own scale.
  function height({ range, log, choices }, value) {
    if (choices) return choices.length > 1 ? choices.indexOf(value) / (choices.length - 1) : 0.5;
    const [low, high, own] = [...range, value].map((x) => (log ? Math.log(x) : x));
    return high > low ? (own - low) / (high - low) : 0.5;
  }
};
