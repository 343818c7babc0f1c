// One job: what holds it, its attempts, its errors, its words, and what can be done with it.

import { get, getOr, path, post, reveal } from "../api.js";
import { h } from "../dom.js";
import { absolute, data, duration, now, number, percent, pretty, visible, when } from "../format.js";
import { badge, button, card, empty, facts, head, href, own } from "../parts.js";
import { editAndRetry } from "./retry.js";

const ENDED = ["completed", "failed", "cancelled"];
const SETTLED = { retried: "bad", died: "bad", lost: "bad", failed: "bad", snoozed: "calm", released: "calm" };
const ENDS = { completed: "good", failed: "bad" };
const WORDS = {
  retried: "Failed, tried again",
  died: "Its worker died",
  lost: "Its worker was lost",
  failed: "Failed",
  snoozed: "Put off by itself",
  released: "Given back",
};

export function job(ctx) {
  const { id } = ctx.route;
  const revealed = { payload: null, result: null }; // asked for once: each look is in the audit log
  let failure = null; // which one was shown last: whoever let it run again may have edited the arguments

  async function show(what, where) {
    revealed[what] = await reveal(where).catch((error) => ({ problem: error.message }));
    ctx.refresh();
  }

  return {
    title: `Job ${visible(id)}`,
    async load(signal) {
      const [info, explained] = await Promise.all([
        get(path("jobs", id), null, signal),
        getOr(null, path("jobs", id, "explain"), null, signal),
      ]);
      return { info, explained };
    },
    view: ({ info, explained }) => {
      const before = failure;
      failure = info.state === "failed" ? info.timeline.length : null;
      if (before !== null && failure !== before) revealed.payload = null;
      if (info.state !== "completed") revealed.result = null;
      return [
        head(
          [h("span", { class: "unseen" }, "Job "), data(info.id, "mono")],
          [h("a", { href: href("jobs", { actor: info.type }) }, data(info.type)), " ", badge(info.state)],
          actions(ctx, info),
        ),
        progress(info),
        h(
          "div",
          { class: "columns" },
          h("div", { class: "stack" }, holds(info, explained), timeline(info)),
          h("div", { class: "stack" }, about(info), payload(ctx, info, revealed, show), result(ctx, info, revealed, show)),
        ),
        error(info),
        log(info),
      ];
    },
    missing: (message) => [
      head("Job", null),
      empty("There is no such job", visible(message), h("a", { class: "as-button", href: "#/jobs" }, "To the jobs")),
    ],
  };
}

function actions(ctx, info) {
  if (!ctx.may) return null;
  if (info.state === "failed") {
    return [
      button("Retry", () => retry(ctx, info), "primary", { key: "retry" }),
      button("Edit and retry", () => editAndRetry(ctx, info.id), "", { key: "edit" }),
      button("Purge", () => purge(ctx, info.id), "danger", { key: "purge" }),
    ];
  }
  return ENDED.includes(info.state) ? null : button("Cancel job", () => cancel(ctx, info), "danger", { key: "cancel" });
}

const cancel = (ctx, info) =>
  ctx.act({
    title: `Cancel job ${info.id}?`,
    text:
      info.state === "leased"
        ? "It runs now: its run is asked to stop, and what it has done so far stays done."
        : "It waits, and will end as cancelled without having run.",
    action: "Cancel job",
    danger: true,
    run: async () => {
      const { cancelled } = await post(path("jobs", info.id, "cancel"));
      return cancelled ? `Job ${info.id} was asked to stop.` : `Job ${info.id} had ended before it could be cancelled.`;
    },
  });

const retry = (ctx, info) =>
  ctx.act({
    title: `Retry job ${info.id}?`,
    text: "It runs again under its id with the same arguments, all its attempts before it.",
    action: "Retry",
    run: async () => {
      await post(path("jobs", info.id, "retry"));
      return `Job ${info.id} waits to run again.`;
    },
  });

const purge = (ctx, id) =>
  ctx.act({
    title: `Purge job ${id}?`,
    text: "It is forgotten with its arguments and its error. This cannot be undone.",
    action: "Purge",
    danger: true,
    run: async () => {
      await post(path("failed", "purge"), { id });
      return `Job ${id} is forgotten.`;
    },
  });

function progress(info) {
  if (info.state === "completed" || (info.progress?.done == null && !info.progress?.message)) return null;
  const { done, message } = info.progress;
  return h(
    "div",
    { class: "progress", key: "progress" },
    done != null && h("progress", { max: 1, value: done, "aria-label": "Progress" }, percent(done)),
    h("p", null, done != null && h("strong", null, percent(done)), message && [" ", data(message)]),
  );
}

function holds(info, explained) {
  const reasons = explained?.reasons ?? [];
  if (!reasons.length) return null;
  const title = ENDED.includes(info.state) ? "How it ended" : info.state === "leased" ? "Where it is" : "Why it waits";
  const expected = explained.expectedAt && h("p", { class: "expected" }, "Expected to begin ", when(explained.expectedAt));
  return card(
    title,
    null,
    h(
      "ol",
      { class: "reasons" },
      reasons.map(({ text }) => h("li", null, data(upper(text)))),
    ),
    expected,
  );
}

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function timeline(info) {
  const runs = info.timeline ?? [];
  const last = lastRun(info, runs);
  const lost = Math.max(0, info.deliveries - runs.length - (last ? 1 : 0)); // the server keeps the latest runs alone, and counts them all
  const moments = [
    moment("calm", "Sent", info.createdAt),
    lost > 0 && notKept(lost),
    runs.map((run, index) => earlierRun(run, lost + index + 1)),
    last && moment("live", `Run ${lost + runs.length + 1} began`, info.processedAt, last),
  ];
  if (info.state === "delayed") moments.push(moment("calm", "Due", info.dueAt, ["to run on a worker of ", data(info.queue)]));
  if (info.completedAt) moments.push(moment(own(ENDS, info.state) ?? "plain", visible(upper(info.state)), info.completedAt));
  return card("Timeline", null, h("ol", { class: "timeline" }, moments));
}

const notKept = (lost) =>
  h("li", { class: "calm" }, h("p", { class: "faint" }, `${number(lost)} earlier ${lost === 1 ? "run is" : "runs are"} not kept`));

const earlierRun = (run, count) =>
  moment(own(SETTLED, run.endedAs) ?? "calm", `Run ${count}: ${own(WORDS, run.endedAs) ?? visible(run.endedAs)}`, run.startedAt, [
    `after ${duration(Date.parse(run.endedAt) - Date.parse(run.startedAt))} on `,
    data(run.worker, "mono"),
  ]);

/** Return in words the run that is none of the earlier ones: it runs now or was the last. Null where there is none. */
function lastRun(info, runs) {
  const end = info.completedAt ?? (info.state === "leased" ? new Date(now()).toISOString() : null);
  if (!info.processedAt || !end || !info.worker || runs.at(-1)?.startedAt === info.processedAt) return null;
  const took = duration(Math.max(0, Date.parse(end) - Date.parse(info.processedAt)));
  return [info.state === "leased" ? `runs for ${took} on ` : `took ${took} on `, data(info.worker, "mono")];
}

const moment = (tone, words, at, more) =>
  h("li", { class: tone }, h("p", null, h("strong", null, words), " ", when(at)), more && h("p", { class: "faint" }, more));

const about = (info) =>
  card(
    "Facts",
    null,
    facts([
      ["Queue", info.queue && data(info.queue)],
      ["Priority", String(info.priority)],
      ["Attempts", String(info.attempts)],
      ["Deliveries", String(info.deliveries)],
      ["Worker", info.worker && data(info.worker, "mono")],
      ["Sent", absolute(info.createdAt)],
      ["Began", info.processedAt && absolute(info.processedAt)],
      ["Ended", info.completedAt && absolute(info.completedAt)],
    ]),
  );

const hidden = (ctx, words, click) =>
  h(
    "div",
    { class: "hidden-data" },
    h("p", null, words),
    ctx.may
      ? [button("Reveal", click, "small"), h("p", { class: "hint" }, "That you looked is kept in the audit log.")]
      : h("p", { class: "hint" }, "An operator can reveal it."),
  );

function payload(ctx, info, revealed, show) {
  const ask = () => show("payload", path("jobs", info.id));
  return card(
    "Arguments",
    null,
    secret(ctx, "The arguments are hidden.", revealed.payload, (told) => told.payload, ask),
  );
}

function result(ctx, info, revealed, show) {
  if (info.state !== "completed") return null;
  const ask = () => show("result", path("jobs", info.id, "result"));
  return card(
    "Result",
    null,
    secret(ctx, "The result is hidden.", revealed.result, (told) => told.result, ask),
  );
}

function secret(ctx, words, told, of, ask) {
  if (!told) return hidden(ctx, words, ask);
  return told.problem ? h("p", { class: "problem" }, told.problem) : h("pre", { class: "code", tabindex: "0" }, pretty(of(told)));
}

function error(info) {
  if (!info.error) return null;
  const { type, message, traceback } = info.error;
  return card(
    info.state === "failed" ? "Error" : "Last error",
    null,
    h("p", { class: "error-line" }, data(type, "mono bad-text")),
    h("p", { class: "error-text" }, data(message)),
    traceback &&
      h("details", { class: "trace" }, h("summary", null, "Traceback"), h("pre", { class: "code", tabindex: "0" }, visible(traceback))),
  );
}

function log(info) {
  const lines = (info.progress?.log ?? []).toReversed();
  if (!lines.length) return null;
  return card(
    "Log",
    h("span", { class: "faint" }, lines.length === 1 ? "the last line" : `the last ${lines.length} lines, the newest first`),
    h(
      "ol",
      { class: "log", tabindex: "0" },
      lines.map((line) => h("li", null, data(line))),
    ),
  );
}
