// Curves over the missing rate; the slider moves over the rates that were computed.

const MOST_BANDS = 4; // more of them cover each other

CHARTS.robustness = ({ y, rates, patterns, sizes, trained, lines }) => {
  let pattern = patterns[0].id;
  let scenario = 0;
  let at = rates.indexOf(50);
  const hidden = new Set();
  const slider = make("input", { type: "range", id: newId("rate"), min: 0, max: rates.length - 1, step: 1, value: at, oninput: move });
  const output = make("output", { for: slider.id });
  const sentence = make("p", { class: "readout", role: "status" });
  const list = make("div", { class: "scroll lines", tabindex: 0, role: "region", "aria-label": "Scores at this rate" });
  const range = make("div", { class: "field wide" },
    make("label", { for: slider.id }, "Samples incomplete: ", output), slider);
  const controls = [
    ...(trained.length > 1 ? [selectOf("Trained in", trained, (place) => { scenario = place; hidden.clear(); renew(); })] : []),
    choiceOf("What is missing", patterns.map((own) => own.name), (place) => { pattern = patterns[place].id; renew(); }),
    range,
  ];
  const spec = { controls, figure, numbers, below: [sentence, list, ...notes()] };
  tell();
  drawings.push(tell);
  return spec;

  function ofScenario() {
    return lines.filter((line) => line.trained === trained[scenario]);
  }

  function move() {
    at = Number(slider.value);
    renew();
  }

  function renew() {
    tell();
    spec.update();
  }

  function tell() {
    const own = ofScenario();
    slider.setAttribute("aria-valuetext", `${rates[at]} %`);
    output.textContent = `${rates[at]} %`;
    sentence.replaceChildren(...counts(sizes[own[0].size]));
    list.replaceChildren(readout(own));
  }

  function notes() {
    const words = `Bands are drawn where at most ${MOST_BANDS} lines are shown; take lines away by their boxes.`;
    return lines.length > MOST_BANDS ? [make("p", { class: "note" }, words)] : [];
  }

  // 70 % of 1,993: 1,395 incomplete, 698 without image, 697 without table
  function counts({ n, complete, hidden: of }) {
    const [images, tables] = of[pattern][at];
    const number = (value) => value.toLocaleString("en");
    const nature = n > complete ? ` ${number(n - complete)} more lack one by nature and stay as they are.` : "";
    return [
      make("strong", {}, `${rates[at]} % of ${number(complete)}: `),
      `${number(images + tables)} complete test samples lose one, ${number(images)} the image and ${number(tables)} the table.${nature}`,
    ];
  }

  function readout(own) {
    const rows = own.map((line) => [named(line), withInterval(line.curves[pattern][at]), sizes[line.size].n, line.seeds]);
    return table({ columns: ["line", `${rates[at]} % missing [95 %]`, "n", "seeds"], rows });
  }

  function named(line) {
    const box = make("input", { type: "checkbox", checked: !hidden.has(line.label), onchange: () => {
      if (box.checked) hidden.delete(line.label);
      else hidden.add(line.label);
      spec.update();
    } });
    return make("label", {}, box, swatch(line.look), line.label);
  }

  function figure() {
    const { ink, band } = themeColours();
    const own = ofScenario().filter((line) => !hidden.has(line.label));
    const bands = (own.length > MOST_BANDS ? [] : own).flatMap((line) => {
      const points = line.curves[pattern];
      const edge = { type: "scatter", mode: "lines", x: rates, line: { width: 0 }, hoverinfo: "skip" };
      return [
        { ...edge, y: points.map((point) => point[1]) },
        { ...edge, y: points.map((point) => point[2]), fill: "tonexty", fillcolor: faint(line.look.colour, band) },
      ];
    });
    const curves = own.map((line) => ({
      type: "scatter", mode: "lines+markers", x: rates, y: line.curves[pattern].map((point) => point[0]),
      line: { color: solid(line.look.colour), dash: line.look.dash, width: 2.2 },
      marker: { symbol: line.look.symbol, size: rates.map((_, place) => (place === at ? 10 : 0)), color: solid(line.look.colour) },
      text: line.curves[pattern].map((point, place) => plain(`${line.label}, ${rates[place]} %: ${withInterval(point)}`)),
      hoverinfo: "text",
    }));
    const cursor = { type: "line", x0: rates[at], x1: rates[at], y0: 0, y1: 1, yref: "paper", line: { color: ink, width: 1, dash: "dot" } };
    const percent = { range: [-1, 101], dtick: 10, zeroline: false };
    return {
      traces: [...bands, ...curves],
      layout: { height: 420, xaxis: axis("samples incomplete in the test (%)", percent), yaxis: axis(y, { zeroline: false }), shapes: [cursor] },
    };
  }

  function numbers() {
    const own = ofScenario();
    const rows = rates.map((rate, place) => [`${rate} %`, ...own.map((line) => withInterval(line.curves[pattern][place]))]);
    return { columns: ["incomplete", ...own.map((line) => line.label)], rows };
  }
};
