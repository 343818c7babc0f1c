// Workers: who is there, what runs where, and who is held up.

import { get, getOr, path } from "../api.js";
import { h } from "../dom.js";
import { data, duration, number, percent, when } from "../format.js";
import { badge, bar, card, empty, facts, head, jobLink, own } from "../parts.js";

const WORDS = { active: "Active", idle: "Idle", error: "Silent" };
const RUNNING_MAX = 200;

export function workers(ctx) {
  return {
    async load(signal) {
      const [told, running] = await Promise.all([
        get(path("workers"), null, signal),
        getOr({ jobs: [] }, path("jobs"), { state: "leased", limit: RUNNING_MAX }, signal),
      ]);
      return { workers: told.workers ?? [], running: Map.groupBy(running.jobs, ({ worker }) => worker), hasMore: Boolean(running.cursor) };
    },
    view: ({ workers: list, running, hasMore }) => {
      const slots = list.reduce((sum, one) => sum + one.concurrency, 0);
      const taken = list.reduce((sum, one) => sum + one.running, 0);
      return [
        head(
          "Workers",
          list.length
            ? `${number(list.length)} ${list.length === 1 ? "worker" : "workers"}, ${number(taken)} of ${number(slots)} slots taken`
            : null,
        ),
        !list.length && empty("No worker is there", "Jobs wait until one comes: python -m angelrt worker APP:RT"),
        h(
          "div",
          { class: "cards" },
          list.map((one) => worker(one, running.get(one.id) ?? [])),
        ),
        hasMore && h("p", { class: "faint" }, `Of the running jobs the first ${RUNNING_MAX} are shown.`),
      ];
    },
  };
}

function worker(one, running) {
  const state = one.blockedBy ? badge("blocked", "Loop blocked") : badge(one.status, own(WORDS, one.status));
  return h(
    "section",
    { class: "card", key: one.id },
    h("div", { class: "card-head" }, h("h2", null, data(one.id, "mono")), state),
    one.blockedBy &&
      h(
        "p",
        { class: "notice warn" },
        h(
          "span",
          null,
          data(one.blockedBy),
          " began to block the event loop ",
          when(blockedSince(one)),
          ". Other jobs of this worker cannot go on.",
        ),
      ),
    h(
      "div",
      { class: "slots" },
      bar(`${one.running} of ${one.concurrency} slots taken`, [[one.running / one.concurrency, "live"]]),
      h("span", null, `${number(one.running)} of ${number(one.concurrency)} slots`),
    ),
    jobs(running),
    facts([
      ["Host", [data(one.host), ` · process ${one.pid}`]],
      ["Kind", data(one.type)],
      ["Queues", names(one.queues)],
      ["Actors", names(one.actors)],
      ["Jobs done", number(one.jobsProcessed)],
      ["Average run", one.jobsProcessed > 0 && duration(one.averageProcessingTime)],
      ["Last beat", when(one.lastHeartbeat)],
      ["Longest block", one.longestBlockBy && [duration((one.longestBlockS ?? 0) * 1000), " by ", data(one.longestBlockBy)]],
    ]),
  );
}

/** Return when the block of a loop began; a time counts on between two looks, a duration would stand still. */
const blockedSince = ({ lastHeartbeat, blockedS }) => new Date(Date.parse(lastHeartbeat) - (blockedS ?? 0) * 1000).toJSON();

const names = (list) => (list.length ? list.map((name, index) => [index > 0 && ", ", data(name)]) : "–");

const jobs = (running) =>
  running.length > 0 &&
  h(
    "ul",
    { class: "running", "aria-label": "Running here" },
    running.map((row) =>
      h(
        "li",
        { key: row.id },
        data(row.type),
        jobLink(row.id),
        h("span", { class: "faint" }, row.progress?.done != null && `${percent(row.progress.done)}, `, "began ", when(row.processedAt)),
      ),
    ),
  );
