// Jobs: find them by state, queue, actor, time and text; pages by cursor, so that a hundred thousand cost no more than fifty.

import { get, getOr, path } from "../api.js";
import { h } from "../dom.js";
import { compact, data, now, percent, when } from "../format.js";
import { STATES, badge, button, card, choice, empty, head, href, jobLink, named, own, pager, table } from "../parts.js";
import { sendJob } from "./send.js";

const LIMIT = 50;
const LOOKS_MAX = 6; // a page of a search may be empty and have another after it
const TYPING_MS = 300;
const SEARCH_MS = 10_000; // a search looks at many jobs: it is not repeated at each event
const NAMES_MS = 30_000;
const ENDED = ["completed", "failed", "cancelled"];
const SINCE = [
  ["", "Any time"],
  ["900", "Last 15 minutes"],
  ["3600", "Last hour"],
  ["21600", "Last 6 hours"],
  ["86400", "Last day"],
  ["604800", "Last week"],
];

export function jobs(ctx) {
  let names = { queues: [], actors: [], at: 0 };
  let typing = 0;
  let searched = { key: "" };

  async function known(signal) {
    if (Date.now() - names.at < NAMES_MS) return names;
    const [one, two] = await Promise.all([
      getOr({ queues: [] }, path("queues"), null, signal),
      getOr({ actors: [] }, path("actors"), null, signal),
    ]);
    names = { queues: one.queues.map(({ queue }) => queue), actors: two.actors.map(({ name }) => name), at: Date.now() };
    return names;
  }

  function filter(changes) {
    const { cursor, ...before } = ctx.route.query;
    ctx.go(href("jobs", { ...before, ...changes }), { quietly: true });
  }

  const type = (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => filter({ text: event.target.value.trim() }), TYPING_MS);
  };

  return {
    async load(signal) {
      const { since, ...query } = ctx.route.query;
      const asked = { ...query, since: since ? new Date(now() - since * 1000).toISOString() : "", limit: LIMIT };
      const key = JSON.stringify(query) + since;
      if (query.text && !ctx.isAway() && key === searched.key && Date.now() - searched.at < SEARCH_MS) return searched.told;
      const [found, told, lists] = await Promise.all([look(asked, signal), getOr({}, path("overview"), null, signal), known(signal)]);
      const counts = told.counts ?? {};
      ctx.told("failed", counts.failed ?? 0);
      searched = { key, at: Date.now(), told: { ...found, counts, lists } };
      return searched.told;
    },
    view: ({ rows, cursor, counts, lists }) => {
      const query = ctx.route.query;
      return [
        head("Jobs", "All that was sent and is still remembered.", ctx.may && button("Send a job", () => sendJob(ctx), "primary")),
        tabs(query, counts),
        h(
          "form",
          {
            class: "filters",
            role: "search",
            "aria-label": "Find jobs",
            key: "filters",
            on: { submit: (event) => event.preventDefault() },
          },
          h(
            "label",
            { class: "field grow" },
            h("span", null, "Search"),
            h("input", {
              type: "search",
              name: "text",
              value: query.text ?? "",
              placeholder: ctx.may ? "Id, actor, argument or error" : "Id, actor or error",
              autocomplete: "off",
              spellcheck: "false",
              on: { input: type },
            }),
          ),
          choice("Queue", "queue", query.queue ?? "", named(lists.queues), (queue) => filter({ queue })),
          choice("Actor", "actor", query.actor ?? "", named(lists.actors), (actor) => filter({ actor })),
          choice("Sent", "since", query.since ?? "", SINCE, (since) => filter({ since })),
        ),
        rows.length ? list(rows, query, cursor) : nothing(query, cursor),
      ];
    },
  };
}

/** Read pages until one is full or the bounded look has gone on long enough. */
async function look(query, signal) {
  const rows = [];
  let { cursor } = query;
  for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
    const page = await get(path("jobs"), { ...query, cursor, limit: LIMIT - rows.length }, signal);
    rows.push(...page.jobs);
    cursor = page.cursor;
    if (!cursor || rows.length >= LIMIT) break;
  }
  return { rows, cursor };
}

function tabs(query, counts) {
  const { cursor, state: chosen = "", ...rest } = query;
  const all = Object.keys(STATES).reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  return h(
    "nav",
    { class: "tabs", "aria-label": "States", key: "tabs" },
    h(
      "ul",
      null,
      [["", "All"], ...Object.entries(STATES)].map(([state, words]) =>
        h(
          "li",
          { key: state },
          h(
            "a",
            { href: href("jobs", { ...rest, state }), "aria-current": state === chosen ? "true" : null },
            words,
            h("span", { class: "count" }, compact(state ? (counts[state] ?? 0) : all)),
          ),
        ),
      ),
    ),
  );
}

function list(rows, query, cursor) {
  const { cursor: here, ...rest } = query;
  return card(
    "Found",
    h("span", { class: "faint" }, order(query.state)),
    table("Jobs", COLUMNS, rows, (row) => row.id),
    pager(rows.length, Boolean(cursor), { isFirst: !here, first: href("jobs", rest), next: href("jobs", { ...rest, cursor }) }),
  );
}

function order(state) {
  if (!state) return "what runs, then what waits, then what has ended";
  return ENDED.includes(state) ? "the last that ended first" : "the next to run first";
}

const COLUMNS = [
  { name: "Job", cell: (row) => jobLink(row.id) },
  { name: "Actor", cell: (row) => data(row.type) },
  { name: "Queue", cell: (row) => data(row.queue) },
  { name: "State", cell: (row) => badge(row.state) },
  { name: "Sent", cell: (row) => when(row.createdAt) },
  { name: "Latest", kind: "rest", cell: latest },
  { name: "Attempts", kind: "number", cell: (row) => String(row.attempts) },
];

/** Return what was last heard of a job. */
function latest(row) {
  if (row.state === "delayed") return ["due ", when(row.dueAt)];
  if (row.state === "leased" && row.progress?.done != null) return [percent(row.progress.done), " ", data(row.progress.message)];
  if (row.error) return data(`${row.error.type}: ${row.error.message}`, "bad-text");
  if (row.completedAt) return ["ended ", when(row.completedAt)];
  if (row.processedAt && row.state === "leased") return ["began ", when(row.processedAt)];
  return h("span", { class: "faint" }, "–");
}

function nothing({ cursor: here, state, ...query }, cursor) {
  const filtered = Object.values(query).some(Boolean);
  const further = cursor && h("a", { class: "as-button", href: href("jobs", { ...query, state, cursor }) }, "Look further");
  const back = (here || filtered) && h("a", { class: "as-button", href: href("jobs", { state: here ? state : "" }) }, "Show all");
  if (further) return empty("None found so far", "There is more to look through.", further, back);
  if (query.queue && (state === "completed" || state === "cancelled")) {
    return empty(
      "No job fits",
      "The queue of a job that completed or was cancelled is not kept. Choose an actor in place of the queue.",
      back,
    );
  }
  if (filtered || here) return empty("No job fits", "Try fewer words, or another state.", back);
  return empty(
    state ? `No job is ${own(STATES, state)?.toLowerCase() ?? "in this state"}` : "No jobs yet",
    state ? "" : "Jobs appear here as soon as they are sent.",
  );
}
