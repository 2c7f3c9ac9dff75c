(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const places = [...document.querySelectorAll("[data-figure]")];

  function style() {
    const of = getComputedStyle(document.body), ink = of.color, line = of.getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    return { background: "transparent", view: { stroke: line }, title: { color: ink }, header: text,
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line }, legend: text };
  }

  // One figure at a time, so that the page answers while it draws; the first are those on the first screen.
  async function draw() {
    if (!window.vegaEmbed) return;
    const specs = JSON.parse(document.getElementById("figures").textContent), config = style();
    for (const place of places) {
      await vegaEmbed(place, specs[place.dataset.figure], { mode: "vega-lite", actions: false, renderer: "svg", config });
      await new Promise((done) => setTimeout(done));
      document.body.dataset.usable = "yes";  // the first figure is drawn; the menus were ready before
    }
    document.body.dataset.drawn = "yes";
  }

  // A menu that shows one panel of several; on paper all are shown.
  const menus = [];
  for (const panels of document.querySelectorAll(".panels")) {
    const parts = [...panels.querySelectorAll(".panel")];
    if (parts.length < 2) continue;
    const label = document.createElement("label"), menu = document.createElement("select");
    label.className = "controls";
    label.append(panels.dataset.menu + " ", menu);
    parts.forEach((part, i) => menu.add(new Option(part.dataset.name, i)));
    const show = (at) => { menu.value = at; parts.forEach((part, i) => part.classList.toggle("away", i !== Number(at))); };
    menu.addEventListener("change", () => menus.forEach((other) => other(menu.value)));
    menus.push(show);
    panels.before(label);
    show(0);
  }

  // The leaderboard: sorted by a click on a head, narrowed by the controls above it.
  const board = document.getElementById("board"), body = board.tBodies[0], rows = [...body.rows];
  const controls = document.getElementById("board-controls"), inputs = [...controls.querySelectorAll("[data-column]")];
  const cell = (row, column) => row.cells[column].textContent;
  const number = (text) => { const n = parseFloat(text.replace("−", "-").replace(/\u202f/g, "")); return Number.isNaN(n) ? -Infinity : n; };

  function narrow() {
    let n = 0;
    for (const row of rows) {
      row.hidden = !inputs.every((input) => {
        const asked = input.value.trim().toLowerCase();
        const texts = input.dataset.column.split(" ").map((column) => cell(row, column));
        return !asked || (input.tagName === "SELECT" ? texts[0] === input.value : texts.join(" ").toLowerCase().includes(asked));
      });
      n += !row.hidden;
    }
    document.getElementById("board-count").textContent = `${n} of ${rows.length} cells`;
  }

  for (const input of inputs) {
    if (input.tagName === "SELECT") {
      input.add(new Option("all", ""));
      for (const value of new Set(rows.map((row) => cell(row, input.dataset.column)))) if (value) input.add(new Option(value, value));
    }
    input.addEventListener("input", narrow);
  }
  if (rows.length > 60) inputs[0].selectedIndex = 1;
  controls.hidden = false;
  narrow();

  const heads = [...board.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const isText = [0, 1, 3, 4, 5].includes(column), up = head.ariaSort ? head.ariaSort !== "ascending" : isText || column === 2;
      heads.forEach((other) => { other.ariaSort = null; });
      head.ariaSort = up ? "ascending" : "descending";
      const by = isText ? (a, b) => cell(a, column).localeCompare(cell(b, column)) : (a, b) => number(cell(a, column)) - number(cell(b, column));
      rows.sort((a, b) => (up ? by(a, b) : by(b, a)));
      body.append(...rows);
    });
  });

  dark.addEventListener("change", draw);
  draw();
})();
