"use strict";
document.documentElement.classList.add("js");

// The leaderboard: sort by a column's button, keep the rows that all filters match.
const board = document.getElementById("board");
if (board) {
  const heads = [...board.querySelectorAll("thead th[data-sort]")];
  const columns = (row) => [...row.children];
  // Cells of a body stand in the order of the first row's leading heads, the second row's, and the first row's last ones.
  const [top, below] = [...board.tHead.rows];
  const lead = [...top.cells].filter((th, i) => th.dataset.sort && i < [...top.cells].findIndex((c) => c.colSpan > 1));
  const tail = [...top.cells].filter((th) => th.dataset.sort && !lead.includes(th));
  const order = below && below.cells.length ? [...lead, ...below.cells, ...tail] : heads;
  const value = (row, k, text) => {
    const words = columns(row)[k].cloneNode(true);
    words.querySelectorAll("small, sup").forEach((extra) => extra.remove());
    const shown = words.textContent.trim();
    return text ? shown : shown === "∞" ? Infinity : parseFloat(shown);
  };
  const sort = (th) => {
    const k = order.indexOf(th), text = th.dataset.sort === "text";
    const first = th.dataset.sort === "up" ? "descending" : "ascending";
    const was = th.getAttribute("aria-sort");
    const now = was === null ? first : was === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", now);
    const sign = now === "ascending" ? 1 : -1;
    for (const body of board.tBodies) {
      const rows = [...body.rows].filter((row) => row.dataset.name !== undefined).map((row) => [value(row, k, text), row]);
      rows.sort(([a], [b]) => text ? sign * a.localeCompare(b) : Number.isNaN(a) - Number.isNaN(b) || sign * (a - b) || 0);
      body.append(...rows.map(([, row]) => row));
    }
  };
  for (const th of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...th.childNodes);
    button.addEventListener("click", () => sort(th));
    th.append(button);
  }
  const filters = [...document.querySelectorAll("[data-filter]")], count = document.querySelector(".controls output");
  const filter = () => {
    const names = new Set();
    for (const row of board.querySelectorAll("tbody tr[data-name]")) {
      row.hidden = !filters.every(({ value: asked, dataset }) => !asked || (dataset.filter === "name"
        ? row.dataset.name.includes(asked.trim().toLowerCase()) : row.dataset[dataset.filter] === asked));
      if (!row.hidden) names.add(row.dataset.name);
    }
    count.textContent = `${names.size} method${names.size === 1 ? "" : "s"}`;
  };
  filters.forEach((one) => one.addEventListener(one.tagName === "SELECT" ? "change" : "input", filter));
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
}

// Curves: the value of the nearest point, by pointer or by arrow keys; a box of the legend hides a method.
for (const figure of document.querySelectorAll(".curves")) {
  const svg = figure.querySelector("svg[role]"), readout = figure.querySelector(".readout"), words = readout.textContent;
  const ticks = figure.dataset.ticks.split(","), unit = figure.dataset.unit;
  const series = [...svg.querySelectorAll(".series")];
  const points = series.flatMap((group) => {
    const values = group.dataset.values.split("|");
    const there = values.map((_, i) => i).filter((i) => values[i] !== "—");
    return [...group.querySelectorAll("use")].map((use, i) => ({ group, tick: there[i], value: values[there[i]],
      x: use.x.baseVal.value, y: use.y.baseVal.value }));
  });
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 7);
  let at = null;
  const show = (point) => {
    series.forEach((group) => group.classList.toggle("active", Boolean(point) && group === point.group));
    ring.remove();
    at = point || null;
    readout.textContent = words;
    if (!point) return;
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    svg.append(ring);
    const name = document.createElement("b"), tick = ticks[point.tick];
    name.textContent = point.group.dataset.name;
    readout.replaceChildren(name, ` ${point.value} ${unit} at ${tick === "clean" ? tick : `${tick} dB`}`);
  };
  const seen = () => points.filter(({ group }) => !group.classList.contains("off"));
  svg.addEventListener("pointermove", (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const near = seen().map((point) => [Math.hypot(point.x - x, point.y - y), point]).sort(([a], [b]) => a - b)[0];
    show(near && near[0] < 40 ? near[1] : null);
  });
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.setAttribute("tabindex", 0);
  svg.addEventListener("focus", () => show(at || seen().sort((a, b) => b.tick - a.tick || a.y - b.y)[0]));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || !at) return;
    event.preventDefault();
    const line = seen().filter((point) => step[0] ? point.group === at.group : point.tick === at.tick);
    line.sort((a, b) => step[0] ? a.tick - b.tick : a.y - b.y);
    show(line[line.indexOf(at) + step[0] + step[1]] || at);
  });
  for (const box of figure.querySelectorAll("[data-toggle]")) {
    const group = series.find((one) => one.dataset.name === box.dataset.toggle);
    const last = points.filter((point) => point.group === group).at(-1);
    box.addEventListener("change", () => { group.classList.toggle("off", !box.checked); show(box.checked ? last : null); });
    for (const [start, end] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
      box.parentElement.addEventListener(start, () => box.checked && show(last));
      box.parentElement.addEventListener(end, () => show(null));
    }
  }
}
