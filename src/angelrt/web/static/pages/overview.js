// Overview: how the whole system does, now and over the last hours.

import { get, getOr, path } from "../api.js";
import { chart, join, spark } from "../chart.js";
import { h } from "../dom.js";
import { compact, data, duration, number, percent } from "../format.js";
import { STATES, badge, bar, card, empty, head, href, table, tile } from "../parts.js";

const RANGES = [
  ["60", "1 h", "last hour"],
  ["360", "6 h", "last 6 hours"],
  ["1440", "24 h", "last day"],
];
const SPARK_POINTS = 30;
const OLD_MS = 60_000;
const COUNT_LEAST = 2; // there is no half a job

export function overview(ctx) {
  return {
    async load(signal) {
      const minutes = ctx.route.query.minutes ?? "60";
      const [now, series, alarms] = await Promise.all([
        get(path("overview"), null, signal),
        getOr({ minutes: [] }, path("series"), { minutes }, signal),
        getOr({ alerts: [] }, path("alerts"), null, signal),
      ]);
      const firing = (alarms.alerts ?? []).filter(({ state }) => state === "firing");
      ctx.told("failed", now.counts?.failed ?? 0);
      ctx.told("alerts", firing.length);
      return { now, points: series.minutes ?? [], firing, minutes };
    },
    view: ({ now, points, firing, minutes }) => {
      const { stats = {}, counts = {} } = now;
      return [
        head("Overview", "How the whole system does.", ranges(minutes)),
        firing.length > 0 && alarmLine(firing),
        notices(now),
        tiles(stats, points, now),
        h("div", { class: "columns" }, curves(join(settled(points)), minutes)),
        states(counts),
        queues(stats.queues ?? []),
        actors(stats.actors ?? []),
      ];
    },
  };
}

const ranges = (chosen) =>
  h(
    "nav",
    { class: "segments", "aria-label": "Time of the curves" },
    RANGES.map(([minutes, words, full]) =>
      h("a", { href: href("", { minutes }), "aria-label": full, "aria-current": minutes === chosen ? "true" : null }, words),
    ),
  );

const alarmLine = (firing) =>
  h(
    "div",
    { class: "notice bad", key: "alarms" },
    badge("firing", "Firing"),
    h(
      "span",
      null,
      firing.map(({ name }, index) => [index > 0 && ", ", data(name)]),
    ),
    h("a", { href: "#/alerts" }, "See the alerts"),
  );

function notices({ workers, backlog, pauses }) {
  const isAlone = workers?.live === 0 && (backlog?.ready > 0 || backlog?.lanes > 0);
  return [
    isAlone &&
      h(
        "div",
        { class: "notice warn", key: "alone" },
        h("span", null, "Jobs wait, and no worker is there to run them."),
        h("a", { href: "#/workers" }, "See the workers"),
      ),
    pauses > 0 &&
      h(
        "div",
        { class: "notice", key: "pauses" },
        badge("paused", number(pauses)),
        h("span", null, pauses === 1 ? "queue, actor or key is paused or drained." : "queues, actors and keys are paused or drained."),
        h("a", { href: "#/limits" }, "See which"),
      ),
  ];
}

function tiles(stats, points, now) {
  const whole = points.slice(-SPARK_POINTS - 1, -1); // the minute that has only begun would look like a fall
  const last = whole.at(-1);
  const ended = (point) => point.completed + point.failed;
  const rate = now.completionRate;
  const waiting = (stats.queues ?? []).reduce((sum, queue) => sum + queue.ready + queue.lanes, 0);
  const ages = (stats.queues ?? []).map((queue) => queue.oldestReadyMs).filter(Number.isFinite);
  const oldest = ages.length ? Math.max(...ages) : null; // nothing is ready where all wait at limits
  const hours = `last ${stats.hours ?? 25} hours`;
  return h(
    "dl",
    { class: "tiles", key: "tiles" },
    tile(
      "Throughput",
      [compact(last ? ended(last) : null), h("small", null, " / min")],
      `${number(last?.sent ?? 0)} sent in that minute`,
      "",
      whole.length > 1 && spark(whole, ended),
    ),
    tile("Pickup p50", duration(stats.pickupP50Ms), hours, "", whole.length > 1 && spark(whole, (point) => point.pickupP50Ms)),
    tile("Pickup p99", duration(stats.pickupP99Ms), hours, "", whole.length > 1 && spark(whole, (point) => point.pickupP99Ms)),
    tile(
      "Completion",
      percent(rate),
      `${number(stats.total?.failed ?? 0)} failed, ${hours}`,
      Number.isFinite(rate) && rate < 0.95 ? "bad" : "",
    ),
    tile(
      "Backlog",
      compact(waiting),
      waiting ? oldest !== null && `the oldest has waited ${duration(oldest)}` : "nothing waits",
      oldest > OLD_MS ? "warn" : "",
    ),
  );
}

/** Return the points without the minute that has only begun, unless nothing happened before it. */
const settled = (points) =>
  points.slice(0, -1).some(({ sent, completed, failed }) => sent + completed + failed > 0) ? points.slice(0, -1) : points;

const count = (value) => compact(value);

function curves(points, minutes) {
  const each = minutes === "60" ? "each minute" : minutes === "360" ? "each 3 minutes" : "each 12 minutes";
  return [
    card(
      "Throughput",
      h("span", { class: "faint" }, `jobs, ${each}`),
      chart(
        "throughput",
        "Jobs that completed and failed",
        points,
        [
          { name: "Completed", tone: "good", of: (point) => point.completed, area: true },
          { name: "Failed", tone: "bad", of: (point) => point.failed, area: true },
          { name: "Sent", tone: "quiet", of: (point) => point.sent },
        ],
        count,
        COUNT_LEAST,
      ),
    ),
    card(
      "Pickup",
      h("span", { class: "faint" }, "from ready to start"),
      chart(
        "pickup",
        "Pickup latency",
        points,
        [
          { name: "p99", tone: "second", of: (point) => point.pickupP99Ms },
          { name: "p50", tone: "first", of: (point) => point.pickupP50Ms, area: true },
        ],
        duration,
      ),
    ),
  ];
}

function states(counts) {
  return h(
    "ul",
    { class: "states", key: "states", "aria-label": "Jobs by state" },
    Object.entries(STATES).map(([state, words]) =>
      h(
        "li",
        { key: state },
        h("a", { href: href("jobs", { state }) }, h("span", { class: "figure" }, compact(counts[state] ?? 0)), h("span", null, words)),
      ),
    ),
  );
}

/** Return the shares of a queue's jobs as a bar. */
export function depthBar(queue) {
  const all = queue.ready + queue.lanes + queue.delayed + queue.leased;
  if (!all) return h("span", { class: "faint" }, "empty");
  return bar(`${queue.leased} running, ${queue.ready} ready, ${queue.lanes} in lanes, ${queue.delayed} delayed`, [
    [queue.leased / all, "live"],
    [queue.ready / all, "first"],
    [queue.lanes / all, "second"],
    [queue.delayed / all, "quiet"],
  ]);
}

function queues(list) {
  return card(
    "Backlog by queue",
    h("a", { href: "#/queues" }, "All queues"),
    list.length
      ? table(
          "Backlog by queue",
          [
            { name: "Queue", cell: (queue) => h("a", { href: href("jobs", { queue: queue.queue }) }, data(queue.queue)) },
            { name: "Jobs", cell: depthBar, kind: "wide" },
            { name: "Running", kind: "number", tone: "live", cell: (queue) => number(queue.leased) },
            { name: "Ready", kind: "number", tone: "first", cell: (queue) => number(queue.ready) },
            { name: "In lanes", kind: "number", tone: "second", cell: (queue) => number(queue.lanes) },
            { name: "Delayed", kind: "number", tone: "quiet", cell: (queue) => number(queue.delayed) },
            {
              name: "Oldest waits",
              kind: "number",
              cell: (queue) =>
                h("span", { class: queue.oldestReadyMs > OLD_MS ? "warn-text" : null }, duration(queue.oldestReadyMs ?? NaN)),
            },
          ],
          list,
          (queue) => queue.queue,
        )
      : empty("No queue yet", "A queue appears when a worker serves it or the first job is sent to it."),
  );
}

function actors(list) {
  if (!list.length) return null;
  return card(
    "Actors",
    h("span", { class: "faint" }, "last day"),
    table(
      "Actors over the last day",
      [
        { name: "Actor", cell: (actor) => h("a", { href: href("jobs", { actor: actor.actor }) }, data(actor.actor)) },
        { name: "Queue", cell: (actor) => data(actor.queue) },
        { name: "Sent", kind: "number", cell: (actor) => number(actor.sent) },
        { name: "Completed", kind: "number", cell: (actor) => number(actor.completed) },
        { name: "Failed", kind: "number", cell: (actor) => h("span", { class: actor.failed ? "bad-text" : null }, number(actor.failed)) },
        { name: "Retried", kind: "number", cell: (actor) => number(actor.retried) },
        { name: "Pickup p99", kind: "number", cell: (actor) => duration(actor.pickupP99Ms ?? NaN) },
        { name: "Run p50", kind: "number", cell: (actor) => duration(actor.runP50Ms ?? NaN) },
        { name: "Run p99", kind: "number", cell: (actor) => duration(actor.runP99Ms ?? NaN) },
      ],
      list,
      (actor) => `${actor.queue} ${actor.actor}`,
    ),
  );
}
