(() => {
  const data = JSON.parse(document.getElementById("places").textContent);
  const element = (id) => document.getElementById(id);
  const canvas = element("map"), context = canvas.getContext("2d");
  const menu = element("target"), what = element("what"), find = element("find");
  const decode = (text, kind) => new kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const xy = decode(data.xy, Uint16Array), n = data.names.length;
  const area = data.area ? decode(data.area, Uint32Array) : null;
  const MISSING = 65535, COLOURS = 64;
  for (const target of data.targets) for (const column of ["truth", "prediction"]) target[column] = decode(target[column], Uint16Array);

  // Numbers.
  const read = (target, column, i) => (target[column][i] === MISSING ? NaN : target.least + target.step * target[column][i]);
  const values = {
    truth: (target, i) => read(target, "truth", i),
    prediction: (target, i) => read(target, "prediction", i),
    residual: (target, i) => read(target, "prediction", i) - read(target, "truth", i),
  };
  const write = (value) => (Number.isNaN(value) ? "–" : String(Number(value.toPrecision(3))).replace("-", "−"));

  // Shapes: polygons of areas, whose points are steps from the one before; squares of tiles.
  const boxes = [];
  const paths = (data.shapes ?? []).map((rings) => {
    const path = new Path2D(), box = [Infinity, Infinity, -Infinity, -Infinity];
    boxes.push(box);
    for (const ring of rings) {
      let x = 0, y = 0;
      for (let i = 0; i < ring.length; i += 2) {
        x += ring[i]; y += ring[i + 1];
        if (i) path.lineTo(x, y); else path.moveTo(x, y);
        box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y));
      }
      path.closePath();
    }
    return path;
  });
  const half = data.side / 2;

  // Colours.
  const scales = Object.fromEntries(Object.entries(data.scales).map(([name, stops]) => [name, Array.from({ length: COLOURS }, (_, k) => {
    const at = (k / (COLOURS - 1)) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
    return `rgb(${stops[i].map((from, c) => Math.round(from + (at - i) * (stops[i + 1][c] - from))).join(" ")})`;
  })]));
  let target, colour, palette;
  function paint() {
    const isResidual = what.value === "residual";
    const low = isResidual ? -target.spread : target.low, high = isResidual ? target.spread : target.high;
    palette = scales[isResidual ? "diverging" : "viridis"];
    colour = Array.from({ length: n }, (_, i) => {
      const share = (values[what.value](target, i) - low) / (high - low || 1);
      return Number.isNaN(share) ? -1 : Math.round(Math.min(1, Math.max(0, share)) * (COLOURS - 1));
    });
    element("legend").firstElementChild.className = `scale ${isResidual ? "diverging" : "viridis"}`;
    element("low").textContent = write(low) + (isResidual ? " too low" : " or less");
    element("high").textContent = write(high) + (isResidual ? " too high" : " or more");
    element("scale-name").textContent = `${what.value} of ${target.name}`;
  }

  // The view: pixels a unit, and where the north-west corner lies.
  const view = { k: 1, x: 0, y: 0 };
  let pixels = 1, least = 1, chosen = -1, isWaiting = false;
  function resize() {
    pixels = devicePixelRatio || 1;
    const height = 1.05 * canvas.clientWidth * data.height / data.width;
    canvas.style.height = `${Math.round(Math.max(240, Math.min(height, 0.7 * innerHeight)))}px`;
    canvas.width = canvas.clientWidth * pixels;
    canvas.height = canvas.clientHeight * pixels;
    least = 0.96 * Math.min(canvas.width / data.width, canvas.height / data.height);
  }
  function showWhole() {
    view.k = least;
    view.x = (canvas.width - least * data.width) / 2;
    view.y = (canvas.height - least * data.height) / 2;
    ask();
  }
  function zoom(by, x = canvas.width / 2, y = canvas.height / 2) {
    const k = Math.min(60 * least, Math.max(least, view.k * by)), ratio = k / view.k;
    view.x = x - (x - view.x) * ratio;
    view.y = y - (y - view.y) * ratio;
    view.k = k;
    ask();
  }
  function ask() {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => { isWaiting = false; draw(); });
  }
  function draw() {
    const style = getComputedStyle(document.body);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const size = Math.max(1, view.k * data.side);
    context.strokeStyle = style.getPropertyValue("--paper");
    if (paths.length) context.setTransform(view.k, 0, 0, view.k, view.x, view.y);
    // lines between many small areas would hide their colours
    context.lineWidth = 0.4 * pixels * Math.min(1, 30 * view.k / (least * Math.sqrt(n))) / view.k;
    for (let i = 0; i < n; i++) {
      if (colour[i] < 0) continue;
      context.fillStyle = palette[colour[i]];
      if (paths.length) {
        context.fill(paths[i], "evenodd");
        context.stroke(paths[i]);
      } else context.fillRect(view.x + view.k * (xy[2 * i] - half), view.y + view.k * (xy[2 * i + 1] - half), size + 0.5, size + 0.5);
    }
    if (chosen >= 0) outline(style);
    document.body.dataset.drawn = "yes";
  }
  function outline(style) {
    const x = view.x + view.k * xy[2 * chosen], y = view.y + view.k * xy[2 * chosen + 1];
    for (const [width, ink] of [[5, style.getPropertyValue("--paper")], [2.5, style.color]]) {
      context.strokeStyle = ink;
      if (paths.length) {
        context.lineWidth = width * pixels / view.k;
        context.stroke(paths[chosen]);
      } else {
        const r = Math.max(view.k * half, 4 * pixels);
        context.lineWidth = width * pixels;
        context.strokeRect(x - r, y - r, 2 * r, 2 * r);
      }
    }
  }

  // Which place lies at a point of the canvas; −1 for none.
  function hit(px, py) {
    const x = (px - view.x) / view.k, y = (py - view.y) / view.k;
    if (paths.length) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      const isNear = ([west, north, east, south]) => x >= west && x <= east && y >= north && y <= south;
      return paths.findIndex((path, i) => isNear(boxes[i]) && colour[i] >= 0 && context.isPointInPath(path, x, y, "evenodd"));
    }
    let best = -1, nearest = half * 1.01;
    for (let i = 0; i < n; i++) {
      const far = Math.max(Math.abs(xy[2 * i] - x), Math.abs(xy[2 * i + 1] - y));
      if (far < nearest && colour[i] >= 0) { best = i; nearest = far; }
    }
    return best;
  }
  // The next place in a direction; from the middle of the map where none is chosen.
  function step(dx, dy) {
    const x = chosen < 0 ? data.width / 2 : xy[2 * chosen], y = chosen < 0 ? data.height / 2 : xy[2 * chosen + 1];
    let best = chosen, nearest = Infinity;
    for (let i = 0; i < n; i++) {
      const ax = xy[2 * i] - x, ay = xy[2 * i + 1] - y;
      const along = ax * dx + ay * dy, across = Math.abs(ax * dy) + Math.abs(ay * dx);
      const isThere = chosen < 0 || (along > 0 && across <= along);
      const far = chosen < 0 ? Math.hypot(ax, ay) : along + 2 * across;
      if (isThere && far < nearest && colour[i] >= 0) { best = i; nearest = far; }
    }
    choose(best, true);
  }
  function choose(i, isKey = false) {
    if (i === chosen) return;
    chosen = i;
    describe();
    if (isKey && i >= 0) {
      const x = view.x + view.k * xy[2 * i], y = view.y + view.k * xy[2 * i + 1];
      if (x < 0 || y < 0 || x > canvas.width || y > canvas.height) { view.x += canvas.width / 2 - x; view.y += canvas.height / 2 - y; }
    }
    ask();
  }
  function describe() {
    const place = element("place");
    if (chosen < 0) return;
    const prediction = values.prediction(target, chosen);
    const facts = [["prediction", write(prediction)]];
    for (const [share, width] of Object.entries(target.halves)) facts.push([`${share} interval`, `${write(prediction - width)} … ${write(prediction + width)}`]);
    facts.push(["truth", write(values.truth(target, chosen))], ["residual", write(values.residual(target, chosen))]);
    if (area && data.areas[area[chosen]] !== data.names[chosen]) facts.unshift(["area", data.areas[area[chosen]]]);
    const title = document.createElement("h2"), list = document.createElement("dl");
    title.textContent = `${data.kind} ${data.names[chosen]}`;
    for (const [name, text] of facts) {
      const term = document.createElement("dt"), value = document.createElement("dd");
      term.textContent = name;
      value.textContent = text;
      list.append(term, value);
    }
    place.replaceChildren(title, list);
  }

  // What the reader does.
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [(event.clientX - box.left) * pixels, (event.clientY - box.top) * pixels]; };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => { held = at(event); canvas.setPointerCapture(event.pointerId); choose(hit(...held)); });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!held) return choose(hit(x, y));
    view.x += x - held[0]; view.y += y - held[1];
    held = [x, y];
    ask();
  });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), ...at(event)); }, { passive: false });
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const middle = chosen < 0 ? [] : [view.x + view.k * xy[2 * chosen], view.y + view.k * xy[2 * chosen + 1]];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) step(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.5, ...middle);
    else if (event.key === "-") zoom(1 / 1.5, ...middle);
    else if (event.key === "0") showWhole();
    else return;
    event.preventDefault();
  });
  element("in").addEventListener("click", () => zoom(1.5));
  element("out").addEventListener("click", () => zoom(1 / 1.5));
  element("whole").addEventListener("click", showWhole);
  find.addEventListener("input", () => {
    const asked = find.value.trim().toLowerCase();
    const some = asked ? data.names.filter((name) => name.toLowerCase().includes(asked)).slice(0, 20) : [];
    element("found").replaceChildren(...some.map((name) => new Option(name)));
    const i = data.names.findIndex((name) => name.toLowerCase() === asked);
    if (i >= 0) choose(i, true);
  });

  // The address holds what is shown: #target=health&show=residual.
  function show() {
    target = data.targets.find((one) => one.name === menu.value);
    const beside = target.verdict ? `, pictures beside the best baseline: ${target.verdict}` : "";
    element("verdict").textContent = `${target.name}${beside}. Model: ${[target.model, target.cut].filter(Boolean).join(" on ")}.`;
    paint();
    describe();
    ask();
  }
  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const [box, key] of [[menu, "target"], [what, "show"]]) {
      const value = asked.get(key);
      if ([...box.options].some((option) => option.value === value)) box.value = value;
    }
    show();
  }
  for (const box of [menu, what]) box.addEventListener("change", () => {
    history.replaceState(null, "", `#${new URLSearchParams({ target: menu.value, show: what.value })}`);
    show();
  });
  element("controls").hidden = false;
  element("legend").hidden = false;
  resize();
  follow();
  showWhole();
  addEventListener("hashchange", follow);
  addEventListener("resize", () => { resize(); showWhole(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ask);
})();
