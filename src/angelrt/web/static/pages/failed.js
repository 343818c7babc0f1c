// Dead letters: what ended as failed. Find it, correct it, let it run again, or forget it.

import { get, path, post } from "../api.js";
import { h } from "../dom.js";
import { data, number, visible, when } from "../format.js";
import { button, empty, head, href, jobLink, pager } from "../parts.js";
import { editAndRetry } from "./retry.js";

const LIMIT = 50;
const LOOKS_MAX = 6;
const TYPING_MS = 300;
const FIELDS = [
  ["text", "Search"],
  ["actor", "Actor"],
  ["queue", "Queue"],
];

// A reader's search looks at no argument, since arguments are hidden.
const sought = ({ may }) => (may ? "Id, error, traceback or argument" : "Id, error or traceback");

export function failed(ctx) {
  let typing = 0;
  const wanted = () => Object.fromEntries(FIELDS.map(([name]) => [name, ctx.route.query[name]]).filter(([, value]) => value));
  const type = (name) => (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => ctx.go(href("failed", { ...wanted(), [name]: event.target.value.trim() }), { quietly: true }), TYPING_MS);
  };
  return {
    async load(signal) {
      const found = await look({ ...wanted(), cursor: ctx.route.query.cursor }, signal);
      ctx.told("failed", found.total ?? 0);
      return found;
    },
    view: ({ letters, cursor, total }) => {
      const filter = wanted();
      const isAll = !Object.keys(filter).length;
      const many = isAll ? `all ${number(total)}` : "all that fit";
      return [
        head(
          "Dead letters",
          total ? `${number(total)} ${total === 1 ? "job has" : "jobs have"} ended as failed.` : null,
          ctx.may &&
            letters.length > 0 && [
              button(`Replay ${many}`, () => replayAll(ctx, filter, many), "primary", { key: "replay" }),
              button(`Purge ${many}`, () => purgeAll(ctx, filter, many), "danger", { key: "purge" }),
            ],
        ),
        h(
          "form",
          {
            class: "filters",
            role: "search",
            "aria-label": "Find dead letters",
            key: "filters",
            on: { submit: (event) => event.preventDefault() },
          },
          FIELDS.map(([name, label]) =>
            h(
              "label",
              { class: `field ${name === "text" ? "grow" : ""}` },
              h("span", null, label),
              h("input", {
                type: "search",
                name,
                value: ctx.route.query[name] ?? "",
                placeholder: name === "text" ? sought(ctx) : "Any",
                autocomplete: "off",
                spellcheck: "false",
                on: { input: type(name) },
              }),
            ),
          ),
        ),
        letters.length
          ? [
              h(
                "ul",
                { class: "letters", key: "letters" },
                letters.map((letter) => one(ctx, letter)),
              ),
              pager(letters.length, Boolean(cursor), {
                isFirst: !ctx.route.query.cursor,
                first: href("failed", filter),
                next: href("failed", { ...filter, cursor }),
              }),
            ]
          : cursor
            ? empty(
                "None found so far",
                "There is more to look through.",
                h("a", { class: "as-button", href: href("failed", { ...filter, cursor }) }, "Look further"),
              )
            : isAll
              ? empty("Nothing has failed", "Jobs that end as failed are kept here, so that they can be corrected and run again.")
              : empty("No dead letter fits", "Try fewer words."),
      ];
    },
  };
}

async function look(query, signal) {
  const letters = [];
  let { cursor } = query;
  let total = 0;
  for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
    const page = await get(path("failed"), { ...query, cursor, limit: LIMIT - letters.length }, signal);
    letters.push(...page.letters);
    ({ cursor, total } = page);
    if (!cursor || letters.length >= LIMIT) break;
  }
  return { letters, cursor, total };
}

function one(ctx, letter) {
  return h(
    "li",
    { class: "card letter", key: letter.id },
    h(
      "div",
      { class: "card-head" },
      h(
        "div",
        null,
        jobLink(letter.id),
        h(
          "p",
          { class: "faint" },
          data(letter.actor),
          " in ",
          data(letter.queue),
          " · failed ",
          when(letter.failedAt),
          ` after ${letter.attempts} ${letter.attempts === 1 ? "attempt" : "attempts"}`,
        ),
      ),
      ctx.may &&
        h(
          "div",
          { class: "buttons" },
          button("Replay", () => replayOne(ctx, letter.id), "small", { key: "replay", "aria-label": `Replay ${letter.id}` }),
          button("Edit and replay", () => editAndRetry(ctx, letter.id), "small", {
            key: "edit",
            "aria-label": `Edit and replay ${letter.id}`,
          }),
        ),
    ),
    h("p", { class: "error-text" }, data(letter.error.type, "mono bad-text"), " ", data(letter.error.message)),
    letter.error.traceback &&
      h(
        "details",
        { class: "trace" },
        h("summary", null, "Traceback"),
        h("pre", { class: "code", tabindex: "0" }, visible(letter.error.traceback)),
      ),
  );
}

const replayOne = (ctx, id) =>
  ctx.act({
    title: `Replay job ${id}?`,
    text: "It runs again under its id with the same arguments, all its attempts before it.",
    action: "Replay",
    run: async () => {
      await post(path("jobs", id, "retry"));
      return `Job ${id} waits to run again.`;
    },
  });

const replayAll = (ctx, filter, many) =>
  ctx.act({
    title: `Replay ${many}?`,
    text: ["They run again in the order in which they failed, all their attempts before them.", "What fails meanwhile is left alone."],
    action: "Replay",
    fields: [
      {
        name: "perSecond",
        label: "Jobs a second",
        type: "number",
        help: "Empty: all at once. With a rate, each is due one interval after the one before it.",
      },
    ],
    run: async ({ perSecond }) => {
      const { replayed, refused } = await post(path("failed", "replay"), {
        ...filter,
        ...(perSecond ? { perSecond: Number(perSecond) } : {}),
      });
      const words = `${number(replayed)} ${replayed === 1 ? "job waits" : "jobs wait"} to run again`;
      return refused ? `${words}; ${number(refused)} refused.` : `${words}.`;
    },
  });

const purgeAll = (ctx, filter, many) =>
  ctx.act({
    title: `Purge ${many}?`,
    text: "They are forgotten with their arguments and errors. This cannot be undone.",
    action: "Purge",
    danger: true,
    fields: [{ name: "sure", label: "Forget them for good", type: "checkbox", required: true }],
    run: async () => {
      const { purged } = await post(path("failed", "purge"), Object.keys(filter).length ? filter : { everything: true });
      return `${number(purged)} ${purged === 1 ? "job is" : "jobs are"} forgotten.`;
    },
  });
