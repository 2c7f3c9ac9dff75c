(() => {
  const narrow = matchMedia("(max-width: 40rem)");
  const places = [...document.querySelectorAll("[data-figure]")];
  document.body.classList.add("script");

  // The address holds the index and the section: #target=health&at=maps.
  const address = () => new URLSearchParams(location.hash.slice(1));
  function write(key, value) {
    const parts = address();
    for (const name of [...parts.keys()]) if (!["target", "at"].includes(name)) parts.delete(name);
    parts.set(key, value);
    history.replaceState(null, "", `#${parts}`);
  }

  // One menu moves everything that is of one index.
  const menu = document.getElementById("target");
  const parts = [...document.querySelectorAll("[data-target]")];
  function show(target) {
    if (menu) menu.value = target;
    for (const part of parts) part.classList.toggle("away", part.dataset.target !== target);
    filter();
    draw();
  }
  function follow() {
    const asked = address().get("target");
    const known = menu ? [...menu.options].map((option) => option.value) : [];
    if (known.includes(asked)) show(asked);
    document.getElementById(address().get("at"))?.scrollIntoView();
  }

  document.querySelector("nav").addEventListener("click", (event) => {
    const id = event.target.hash?.slice(1);
    if (!id) return;
    event.preventDefault();
    write("at", id);
    document.getElementById(id).scrollIntoView();
    if (narrow.matches) contents.open = false;
  });
  const contents = document.querySelector(".contents");
  contents.open = !matchMedia("(max-width: 64rem)").matches;

  const isTable = (spec) => spec.encoding?.x?.type === "nominal";  // heat maps, whose rows leave no room above

  // Figures, those in sight first, one at a time, so that the page answers while it draws.
  function style(spec) {
    const of = getComputedStyle(document.body), ink = of.color, line = of.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    const above = { labelAlign: "left", labelBaseline: "bottom", labelPadding: 0, labelOffset: -6, ticks: false, domain: false };
    return { background: "transparent", view: { stroke: line }, title: { color: ink }, header: text, style: { "guide-label": { fill: ink } },
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line }, legend: text, text: { fill: ink },
      ...(narrow.matches ? { axisYDiscrete: isTable(spec) ? { labelLimit: 110 } : above } : {}) };
  }
  const specs = JSON.parse(document.getElementById("figures").textContent);
  // Charts take the width that there is, small multiples as many columns as fit; a phone turns tables on their side.
  const room = document.querySelector("main section").clientWidth;
  const count = (spec, channel) => new Set(Object.values(spec.datasets)[0].map((row) => row[spec.encoding[channel].field])).size;
  function fit(spec, place) {
    const fitted = structuredClone(spec), isHalf = Boolean(place.closest(".grid")) && room > 640;
    const here = isHalf ? Math.min(500, room / 2 - 20) : room;
    if (fitted.facet) {
      fitted.columns = Math.max(1, Math.min(fitted.columns, Math.floor(here / (fitted.spec.width + 75))));
      fitted.spec.width = Math.floor(here / fitted.columns) - 75;
    } else if (typeof fitted.width === "number") {
      if (fitted.width === fitted.height) fitted.height = Math.min(here, 420) - 50;
      fitted.width = here;
      fitted.autosize = { type: "fit-x", contains: "padding" };
      if (fitted.height.step) fitted.height = (narrow.matches ? 46 : fitted.height.step) * count(spec, "y");
      if (fitted.mark === "bar" && narrow.matches) fitted.mark = { type: "bar", size: 12 };
    } else if (narrow.matches) {
      const { x, y } = fitted.encoding;
      if (count(spec, "x") > count(spec, "y")) Object.assign(fitted.encoding, { x: { ...y, axis: x.axis }, y: { ...x, axis: {} } });
      Object.assign(fitted.encoding.x.axis, { labelAngle: -90 });
      for (const layer of fitted.layer) if (layer.encoding.color?.legend) layer.encoding.color.legend = null;
      fitted.width.step = Math.max(36, (here - 130) / count(fitted, "x"));
    } else fitted.width.step = Math.max(isHalf ? 36 : 46, Math.min(fitted.width.step, (here - (isHalf ? 210 : 340)) / count(spec, "x")));
    return fitted;
  }
  const drawn = new Set();
  let isDrawing = false;
  async function draw() {
    if (isDrawing || !window.vegaEmbed) return;
    isDrawing = true;
    for (;;) {
      const waiting = places.filter((place) => !drawn.has(place));
      const place = waiting.find((one) => !one.closest(".away")) ?? waiting[0];
      if (!place) break;
      drawn.add(place);
      const spec = specs[place.dataset.figure];
      await vegaEmbed(place, fit(spec, place), { mode: "vega-lite", actions: false, renderer: "svg", config: style(spec) });
      await new Promise((done) => setTimeout(done));
      document.body.dataset.usable = "yes";  // the first figure is drawn; the menus were ready before
    }
    isDrawing = false;
    document.body.dataset.drawn = "yes";
  }

  // The leaderboard: sorted by a click on a head, narrowed by the controls above it.
  const board = document.getElementById("board"), body = board.tBodies[0], rows = [...body.rows];
  const controls = document.getElementById("board-controls"), inputs = [...controls.querySelectorAll("[data-column]")];
  const key = (row, name) => row.querySelector(`[data-key=${name}]`).textContent;
  const cell = (row, column) => row.cells[column].textContent;
  const number = (text) => { const n = parseFloat(text.replace("−", "-").replace(/\u202f/g, "")); return Number.isNaN(n) ? -Infinity : n; };
  const isShown = (row) => !row.hidden && !row.classList.contains("away");

  function filter() {
    for (const row of rows) {
      row.hidden = !inputs.every((input) => {
        const asked = input.value.trim().toLowerCase(), text = key(row, input.dataset.column).toLowerCase();
        return !asked || (input.tagName === "SELECT" ? text === asked : text.includes(asked));
      });
    }
    document.getElementById("board-count").textContent = `${rows.filter(isShown).length} of ${rows.length} cells`;
  }
  for (const input of inputs) {
    if (input.tagName === "SELECT") {
      input.add(new Option("all", ""));
      for (const value of new Set(rows.map((row) => key(row, input.dataset.column)))) if (value) input.add(new Option(value, value));
    }
    input.addEventListener("input", filter);
  }
  inputs[0].selectedIndex = Math.min(1, inputs[0].options.length - 1);
  controls.hidden = false;

  const heads = [...board.tHead.rows[0].cells].slice(0, -1);
  document.getElementById("board-copy").addEventListener("click", async (event) => {
    const quote = (text) => `"${text.trim().replaceAll('"', '""')}"`;
    const lines = [heads, ...rows.filter(isShown).map((row) => [...row.cells].slice(0, -1))];
    const text = lines.map((cells) => [...cells].map((one) => quote(one.textContent)).join(",")).join("\n");
    await navigator.clipboard.writeText(text);
    event.target.textContent = "Copied";
  });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const isText = [0, 1, 3, 4].includes(column), up = head.ariaSort ? head.ariaSort !== "ascending" : isText || column === 2;
      heads.forEach((other) => { other.ariaSort = null; });
      head.ariaSort = up ? "ascending" : "descending";
      const by = isText ? (a, b) => cell(a, column).localeCompare(cell(b, column)) : (a, b) => number(cell(a, column)) - number(cell(b, column));
      rows.sort((a, b) => (up ? by(a, b) : by(b, a)));
      body.append(...rows);
    });
  });

  if (menu) {
    menu.addEventListener("change", () => { write("target", menu.value); show(menu.value); });
    document.getElementById("menu").hidden = false;
    show(menu.querySelector("[selected]").value);
  } else {
    filter();
    draw();
  }
  follow();
  addEventListener("hashchange", follow);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawn.clear(); draw(); });
})();
