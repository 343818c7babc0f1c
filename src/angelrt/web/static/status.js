// The public status page: reads status.json every ten seconds and shows it. What comes reaches the page as text alone.

import { h, s } from "./dom.js";
import { clock, duration, number, percent } from "./format.js";

const EVERY_MS = 10_000;
const PATIENCE_MS = 8_000;
const HEIGHT = 100;

const place = (id) => document.getElementById(id);

function tile(label, value, more) {
  return h("div", { class: "tile" }, h("dt", null, label), h("dd", null, value, more && h("small", null, more)));
}

function tiles(status) {
  if (status.state === "unreachable") return [];
  const isKnown = status.backlogAgeMs !== null;
  const oldest = status.backlog ? isKnown && `the oldest for ${duration(status.backlogAgeMs)}` : "nothing waits";
  return [
    tile("Completed", number(status.completedLastHour), "in the last hour"),
    tile("Completed", number(status.completedLastDay), "in the last day"),
    tile("Went well", percent(status.completionRate), "of the jobs of the last hour"),
    tile("Waiting now", number(status.backlog), oldest),
    tile("Half begin within", duration(status.pickupP50Ms), "in the last hour"),
    tile("99% begin within", duration(status.pickupP99Ms), "in the last hour"),
  ];
}

function plot(minutes) {
  const most = Math.max(...minutes.map(({ completed }) => completed), 1);
  const bars = minutes.map(({ at, completed }, index) => {
    const tall = (completed / most) * HEIGHT;
    return s("rect", { x: index + 0.12, width: 0.76, y: HEIGHT - tall, height: tall }, s("title", null, `${clock(at)}: ${number(completed)}`));
  });
  const all = minutes.reduce((sum, { completed }) => sum + completed, 0);
  const label = `Completed in the last hour: ${number(all)}; in the busiest minute: ${number(most)}`;
  const svg = s("svg", { class: "plot", viewBox: `0 0 ${minutes.length} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("line", { x1: 0, x2: minutes.length, y1: HEIGHT, y2: HEIGHT }), bars);
  return [svg, h("div", { class: "ends", "aria-hidden": "true" },
    h("span", null, clock(minutes[0].at)), h("span", null, `at most ${number(most)} in a minute`), h("span", null, clock(minutes.at(-1).at)))];
}

function show(status) {
  if (place("state").dataset.state !== status.state || place("state-text").textContent !== status.text) {
    place("state").dataset.state = status.state;
    place("state-text").textContent = status.text;
    document.title = status.state === "working" ? "Status" : `Status: ${status.state}`;
  }
  place("late").hidden = true;
  place("tiles").replaceChildren(...tiles(status));
  place("curve").hidden = status.minutes.length === 0;
  place("plot").replaceChildren(...(status.minutes.length ? plot(status.minutes) : []));
  place("seen").textContent = `As of ${new Date(status.at).toLocaleTimeString("en-GB")}. It is brought up to date every ten seconds.`;
}

async function refresh() {
  try {
    const answer = await fetch("status.json", { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
  } catch {
    place("late").textContent = "This page gets no answer at the moment, so what it shows may be old. It tries again by itself.";
    place("late").hidden = false;
    if (place("state").dataset.state === "loading") place("state-text").textContent = "Not known yet";
  }
}

let wake = () => {};
document.addEventListener("visibilitychange", () => wake());

async function keepFresh() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, EVERY_MS);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

keepFresh();
