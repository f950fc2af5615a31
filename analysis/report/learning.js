// How runs learned, and what a search for two values at once found.

CHARTS.learning = ({ runs, y }) => {
  const scenarios = [...new Set(runs.map((run) => run.scenario))];
  let own = runs.filter((run) => run.scenario === scenarios[0]);
  const spec = {
    controls: scenarios.length > 1 ? [selectOf("Scenario", scenarios, (at) => { own = runs.filter((run) => run.scenario === scenarios[at]); spec.update(); })] : null,
    keys: () => [keyOfRuns(["complete", "pruned"], "lines")],
    figure,
    numbers: () => ({
      columns: ["trial", "state", "epochs", "stopped at", "best", "last"], names: 2,
      rows: own.map((run) => [String(run.trial), run.state, run.epochs.length, run.stopped, fixed(Math.max(...run.values)), fixed(run.values.at(-1))]),
    }),
  };
  return spec;

  function figure() {
    const { ink } = themeColours();
    const order = [...own].sort((a, b) => weight(a) - weight(b));
    const traces = order.map((run) => {
      const { colour } = RUNS[run.state];
      const last = run.epochs.length - 1;
      const paper = run.trial === 0;
      const seen = run.best ? solid(BEST) : paper ? ink : faint(colour, 0.6);
      return {
        type: "scatter", mode: "lines+markers", x: run.epochs, y: run.values, hoverinfo: "text",
        line: { color: seen, width: run.best || paper ? 2.4 : 1.2, dash: paper && !run.best ? "dash" : "solid" },
        marker: { symbol: "x-thin-open", size: run.epochs.map((_, at) => (run.stopped !== null && at === last ? 8 : 0)), color: seen, line: { width: 1.6, color: seen } },
        text: run.epochs.map((epoch, at) => plain(`trial ${run.trial}, ${run.state}, epoch ${epoch}: ${fixed(run.values[at])}`)),
      };
    });
    return { traces, layout: { height: 400, hovermode: "closest", xaxis: axis("epoch", { zeroline: false, rangemode: "tozero" }), yaxis: axis(y, { zeroline: false }) } };
  }

  function weight(run) {
    return run.best ? 2 : run.trial === 0 ? 1 : 0;
  }
};

CHARTS.front = ({ points, x }) => {
  const signs = [{ name: "on the front", colour: BEST, symbol: "circle" }, { name: "another is better", colour: "#7d8590", symbol: "circle" }];
  return {
    keys: () => [key("", signs)],
    figure,
    numbers: () => ({
      columns: ["trial", "search", "on the front", `${x} [95 %]`, "worst [95 %]", "worst scenario"], names: 3,
      rows: points.map((own) => [String(own.trial), own.search, own.on_front ? "yes" : "no", withInterval(own.first), withInterval(own.worst), own.worst_scenario]),
    }),
  };

  function figure() {
    const traces = [false, true].map((front) => {
      const own = points.filter((point) => point.on_front === front).sort((a, b) => a.first[0] - b.first[0]);
      const colour = signs[front ? 0 : 1].colour;
      return {
        type: "scatter", mode: front ? "lines+markers" : "markers", x: own.map((point) => point.first[0]), y: own.map((point) => point.worst[0]), hoverinfo: "text",
        line: { color: faint(colour, 0.6), width: 1.5, shape: "vh" }, marker: { color: solid(colour), size: front ? 9 : 6, symbol: "circle" },
        ...(front ? { error_x: { ...reach(own.map((point) => point.first)), color: faint(colour, 0.4) }, error_y: { ...reach(own.map((point) => point.worst)), color: faint(colour, 0.4) } } : {}),
        text: own.map((point) => plain(`trial ${point.trial}: ${x} ${withInterval(point.first)}, worst ${withInterval(point.worst)} in ${point.worst_scenario}`)),
      };
    });
    return { traces, layout: { height: 430, xaxis: axis(`${x}, validation (%)`, { zeroline: false }), yaxis: axis("worst scenario, validation (%)", { zeroline: false }) } };
  }
};
