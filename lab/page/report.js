"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const touch = matchMedia("(pointer: coarse)").matches;

  // ---- figures: their data has numbers of colours, which are filled in from the theme

  const figures = JSON.parse(byId("figures").textContent);
  const shades = 7;

  // from s0 to s6 with a step between s3 and s4: on the colours between them no text is easy to read
  const scale = (reversed) => {
    const order = [0, 1, 2, 3, 3, 4, 4, 5, 6].map((shade) => colour(`s${shade}`));
    const places = [0, 1, 2, 3, 3.5, 3.5, 4, 5, 6].map((at) => at / (shades - 1));
    return places.map((at, stop) => (reversed ? [1 - at, order[stop]] : [at, order[stop]])).sort((a, b) => a[0] - b[0]);
  };

  const translucent = (hex, alpha) =>
    `rgba(${[1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).join(",")},${alpha})`;

  function coloured(trace) {
    const { color, shade, heat } = trace.meta;
    if (heat) return { ...trace, colorscale: scale(heat === "reversed") };
    const own = colour(shade === undefined ? `c${color}` : `s${shade}`);
    const found = { ...trace, line: { ...trace.line, color: own }, marker: { ...trace.marker, color: own } };
    if (trace.type === "bar") delete found.line;
    if (trace.fill) found.fillcolor = translucent(own, 0.16);
    for (const bar of ["error_x", "error_y"])
      if (trace[bar]) found[bar] = { ...trace[bar], color: trace.type === "bar" ? colour("text") : own, thickness: 1.5 };
    return found;
  }

  function themed(layout, width) {
    const axis = (given) => ({
      gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"), ...given,
    });
    return {
      margin: { l: 56, r: 16, t: 28, b: 48 },
      ...layout,
      width,
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
      annotations: (layout.annotations || []).map((note) => ({ ...note, bgcolor: translucent(colour("page"), 0.8) })),
      dragmode: touch ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text") }, namelength: -1 },
    };
  }

  const hidden = new Set(); // "figure curve" pairs

  function draw(number, width) {
    const { data, layout } = figures[number];
    const traces = data.map(coloured).map((trace) => ({
      ...trace, visible: !hidden.has(`${number} ${trace.legendgroup}`),
    }));
    return Plotly.react(byId(`figure-${number}`), traces, themed(layout, width), {
      displayModeBar: false, responsive: true, showTips: false,
    });
  }

  const drawAll = (widthOf = () => undefined) => figures.forEach((_, number) => draw(number, widthOf(number)));

  // one after the other, so that the page can be read and scrolled meanwhile
  let next = 0;
  function drawNext() {
    if (next < figures.length) {
      draw(next++);
      setTimeout(drawNext);
    } else root.dataset.drawn = "true";
  }
  drawNext();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());

  // a page is narrower than most windows, and white
  const paper = 680;
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    next = figures.length;
    drawAll((number) => (byId(`figure-${number}`).closest(".wide") ? paper : Math.floor(paper / 2) - 12));
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    drawAll();
  });

  for (const button of document.querySelectorAll("[data-curve]"))
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const plot of button.closest("section").querySelectorAll(".plot")) {
        const number = Number(plot.id.replace("figure-", ""));
        hidden[shown ? "delete" : "add"](`${number} ${button.dataset.curve}`);
        draw(number);
      }
    });

  // ---- leaderboards

  const valueOf = (cell) => (cell.dataset.value === undefined ? cell.textContent : cell.dataset.value);

  function compare(a, b, down) {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing comes last either way
    const [x, y] = [Number(a), Number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
    return down ? -order : order;
  }

  function sortBy(header) {
    const row = header.parentElement;
    const before = header.getAttribute("aria-sort");
    const turned = before === "ascending" ? "descending" : "ascending";
    const order = before ? turned : header.dataset.first;
    for (const other of row.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const body = header.closest("table").tBodies[0];
    const at = [...row.children].indexOf(header);
    const rows = [...body.rows].map((each) => [valueOf(each.cells[at]), each]);
    rows.sort(([a], [b]) => compare(a, b, order === "descending"));
    body.append(...rows.map(([, each]) => each));
  }

  function filter(board) {
    const words = board.querySelector("[data-words]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const choices = [...board.querySelectorAll("[data-choice]")].filter((select) => select.value !== "");
    const rows = [...board.querySelectorAll("tbody tr")];
    for (const row of rows) {
      const values = JSON.parse(row.dataset.values);
      const text = `${row.textContent} ${Object.entries(values).map((pair) => pair.join("=")).join(" ")}`.toLowerCase();
      const fits = choices.every((select) => values[select.dataset.choice] === select.value);
      row.hidden = !(fits && words.every((word) => text.includes(word)));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    board.querySelector("[role=status]").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows.`;
  }

  for (const board of document.querySelectorAll(".board")) {
    for (const header of board.querySelectorAll("th[data-first]"))
      header.querySelector("button").addEventListener("click", () => sortBy(header));
    board.querySelector("form").addEventListener("input", () => filter(board));
    board.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    filter(board);
  }

  // ---- commands

  // the clipboard is closed to a page in a frame, such as in the MLflow UI: there the command is selected
  async function copy(button) {
    const code = byId(button.dataset.copy);
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      for (let parent = code.parentElement; parent; parent = parent.parentElement)
        if (parent.tagName === "DETAILS") parent.open = true;
      getSelection().selectAllChildren(code);
      code.scrollIntoView({ block: "center" });
      said = "Selected";
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
})();
