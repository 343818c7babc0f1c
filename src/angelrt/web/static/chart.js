// Curves over time as SVG: drawn anew at each refresh, read with the pointer or the arrow keys, and as a table.

import { h, s } from "./dom.js";
import { absolute, clock } from "./format.js";

const H = 190;
const PAD = { right: 10, top: 10, bottom: 22 };
const LEFT_LEAST = 46;
const LABEL_GAP = 8;
const SHARES = [0, 0.5, 1]; // of the axis, where its lines are
const POINTS_MAX = 120;

// What a person looks at, by chart: it outlives the refresh.
const chosen = new Map();
const opened = new Set();

/** Join minutes until they are few enough to draw: counts are added, of times the longest stays. */
export function join(minutes, most = POINTS_MAX) {
  const step = Math.ceil(minutes.length / most);
  if (step <= 1) return minutes;
  const joined = [];
  for (let end = minutes.length; end > 0; end -= step) joined.unshift(one(minutes.slice(Math.max(0, end - step), end)));
  return joined;
}

function one(group) {
  const sum = { ...group[0] };
  for (const name of Object.keys(sum)) {
    const values = group.map((minute) => minute[name]).filter(Number.isFinite);
    if (name.endsWith("Ms")) sum[name] = values.length ? Math.max(...values) : null;
    else if (name !== "at") sum[name] = values.reduce((total, value) => total + value, 0);
  }
  return sum;
}

/** Return the smallest number that is not below `value` and whose half is pleasant, too. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const base = 10 ** Math.floor(Math.log10(value));
  const steps = base < 10 ? [1, 2, 4, 6, 8, 10] : [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10];
  return steps.map((step) => step * base).find((step) => step >= value * 0.999);
}

/**
 * Return a chart. `series` are [{name, tone, of(point), area}], in the order in which they are drawn; `words(value)` writes a value; the axis goes
 * to `least` at least.
 * Points are [{at, ...}], oldest first; None in a series is a gap.
 */
export function chart(id, label, points, series, words, least = 0) {
  const values = series.flatMap(({ of }) => points.map(of)).filter(Number.isFinite);
  if (!values.length) return h("p", { class: "chart-empty" }, "Nothing happened in this time.");
  const top = ceiling(Math.max(least, ...values));
  const width = widthNow();
  const left = roomFor(SHARES.map((share) => words(top * share)));
  const x = (index) => left + (index / Math.max(1, points.length - 1)) * (width - left - PAD.right);
  const y = (value) => H - PAD.bottom - (value / top) * (H - PAD.top - PAD.bottom);
  const marker = s("g", { class: "marker" });
  const readout = h("p", { class: "readout", "aria-live": "off" });
  const state = { id, points, series, words, x, y, left, width };
  const svg = s(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${width} ${H}`,
      role: "img",
      tabindex: "0",
      "aria-label": `${label}. The arrow keys read it point by point.`,
      on: {
        pointermove: (event) => point(event.currentTarget, state, indexAt(event, state)),
        pointerleave: (event) => point(event.currentTarget, state, null),
        blur: (event) => point(event.currentTarget, state, null),
        keydown: (event) => step(event, state),
      },
    },
    grid(top, y, left, width, words),
    hours(points, x, width < 420 ? 4 : 6),
    series.map((each) => curve(each, points, x, y)),
    marker,
  );
  mark(marker, readout, state);
  return h("figure", { class: "plot", key: id }, legend(series), svg, readout, asTable(id, label, points, series, words));
}

/** Return the width of a chart in pixels, so that its letters are as large as those around it. */
function widthNow() {
  const room = document.getElementById("page").clientWidth;
  const isAlone = matchMedia("(max-width: 860px)").matches; // as frame.css has it for columns
  return Math.max(260, Math.round(isAlone ? room - 34 : (room - 20) / 2 - 42));
}

/** Return how far from the left a chart begins whose axis has these labels: beside the widest. */
function roomFor(labels) {
  const ink = document.createElement("canvas").getContext("2d");
  ink.font = `11.5px ${getComputedStyle(document.body).fontFamily}`; // as charts.css has it
  return Math.max(LEFT_LEAST, Math.ceil(Math.max(...labels.map((label) => ink.measureText(label).width))) + LABEL_GAP + 2);
}

function grid(top, y, left, width, words) {
  return SHARES.map((share) =>
    s(
      "g",
      { class: "grid" },
      s("line", { x1: left, x2: width - PAD.right, y1: y(top * share), y2: y(top * share) }),
      s("text", { x: left - LABEL_GAP, y: y(top * share) + 4, "text-anchor": "end" }, words(top * share)),
    ),
  );
}

function hours(points, x, most) {
  const many = Math.min(most, points.length);
  const at = Array.from({ length: many }, (_, n) => Math.round((n * (points.length - 1)) / Math.max(1, many - 1)));
  return at.map((index, n) =>
    s(
      "text",
      {
        class: "tick",
        x: x(index),
        y: H - 5,
        "text-anchor": n === 0 ? "start" : n === many - 1 ? "end" : "middle",
      },
      clock(points[index].at),
    ),
  );
}

function runs(points, of) {
  const found = [];
  let open = null;
  points.forEach((entry, index) => {
    const value = of(entry);
    if (!Number.isFinite(value)) open = null;
    else if (open) open.push([index, value]);
    else found.push((open = [[index, value]]));
  });
  return found;
}

function curve({ tone, of, area }, points, x, y) {
  return runs(points, of).map((run) => {
    const line = run.map(([index, value], n) => `${n ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const [from, to] = [x(run[0][0]), x(run.at(-1)[0])];
    return s(
      "g",
      { class: `curve ${tone}` },
      area && run.length > 1 && s("path", { class: "area", d: `${line}L${to} ${y(0)}L${from} ${y(0)}Z` }),
      run.length > 1 ? s("path", { class: "line", d: line }) : s("circle", { class: "single", cx: from, cy: y(run[0][1]), r: 2.5 }),
    );
  });
}

const legend = (series) =>
  h(
    "ul",
    { class: "legend" },
    series.map(({ name, tone }) => h("li", null, h("span", { class: `swatch ${tone}`, "aria-hidden": "true" }), name)),
  );

function indexAt(event, { points, left, width }) {
  const box = event.currentTarget.getBoundingClientRect();
  const share = (((event.clientX - box.left) / box.width) * width - left) / (width - left - PAD.right);
  return Math.round(Math.min(1, Math.max(0, share)) * (points.length - 1));
}

function step(event, state) {
  const last = state.points.length - 1;
  const before = chosen.get(state.id) ?? last + 1;
  const to = { ArrowLeft: before - 1, ArrowRight: before + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const figure = event.currentTarget;
  figure.parentNode.querySelector(".readout").setAttribute("aria-live", "polite");
  point(figure, state, Math.min(last, Math.max(0, to)));
}

function point(svg, state, index) {
  if (index === null) chosen.delete(state.id);
  else chosen.set(state.id, index);
  mark(svg.querySelector(".marker"), svg.parentNode.querySelector(".readout"), state);
}

function mark(marker, readout, { id, points, series, words, x, y }) {
  const index = chosen.get(id);
  const entry = points[index];
  marker.replaceChildren();
  if (!entry) {
    readout.textContent = "";
    return;
  }
  marker.append(s("line", { x1: x(index), x2: x(index), y1: PAD.top, y2: H - PAD.bottom }));
  for (const { of, tone } of series)
    if (Number.isFinite(of(entry))) marker.append(s("circle", { class: tone, cx: x(index), cy: y(of(entry)), r: 3.5 }));
  readout.textContent = `${clock(entry.at)} · ${series.map(({ name, of }) => `${name} ${words(of(entry))}`).join(" · ")}`;
}

function asTable(id, label, points, series, words) {
  const body = h("tbody");
  const fill = (into) =>
    into.replaceChildren(
      ...points.toReversed().map((entry) =>
        h(
          "tr",
          null,
          h("th", { scope: "row" }, absolute(entry.at)),
          series.map(({ of }) => h("td", { class: "number" }, words(of(entry)))),
        ),
      ),
    );
  const toggle = ({ currentTarget: details }) => {
    if (details.open) opened.add(id);
    else opened.delete(id);
    fill(details.querySelector("tbody"));
  };
  if (opened.has(id)) fill(body);
  return h(
    "details",
    { class: "as-table", open: opened.has(id), on: { toggle } },
    h("summary", null, "As a table"),
    h(
      "div",
      { class: "scroll tall", tabindex: "0", role: "region", "aria-label": label },
      h(
        "table",
        { class: "plain" },
        h("caption", { class: "unseen" }, label),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "Time"),
            series.map(({ name }) => h("th", { scope: "col", class: "number" }, name)),
          ),
        ),
        body,
      ),
    ),
  );
}

/** Return a small curve without axes. */
export function spark(points, of) {
  const values = points.map((entry) => of(entry) ?? 0);
  const top = Math.max(...values, 1);
  const line = values
    .map(
      (value, index) =>
        `${index ? "L" : "M"}${((index / Math.max(1, values.length - 1)) * 100).toFixed(1)} ${(27 - (value / top) * 25).toFixed(1)}`,
    )
    .join("");
  return s(
    "svg",
    { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "area", d: `${line}L100 28L0 28Z` }),
    s("path", { class: "line", d: line }),
  );
}
