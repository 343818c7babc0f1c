// The parts that pages are made of: tables, badges, tiles, and the states in which there is nothing to show.

import { h, s } from "./dom.js";
import { data, number, visible } from "./format.js";

const TONES = {
  completed: "good",
  ok: "good",
  active: "good",
  failed: "bad",
  firing: "bad",
  error: "bad",
  dead: "bad",
  leased: "live",
  running: "live",
  paused: "warn",
  drained: "warn",
  draining: "warn",
  blocked: "warn",
  nearly: "warn",
  delayed: "calm",
  ready: "calm",
  lane: "calm",
  idle: "calm",
};
export const STATES = {
  ready: "Ready",
  delayed: "Delayed",
  leased: "Running",
  lane: "In a lane",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
};

/** Return what a table has under a name that came from outside: `constructor` is none of its own. */
export const own = (table, name) => (Object.hasOwn(table, name ?? "") ? table[name] : undefined);

/** Return a word with its colour; the word alone says all. */
export const badge = (word, text = own(STATES, word) ?? word) =>
  h("span", { class: `badge ${own(TONES, word) ?? "plain"}` }, visible(text));

/** Return the link to a job. */
export const jobLink = (id) => h("a", { class: "mono", href: jobHref(id) }, data(id));
export const jobHref = (id) => `#/jobs/${encodeURIComponent(id)}`;

/** Return the address of a page with a query that leaves out what is empty. */
export function href(page, query = {}) {
  const named = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(named).toString();
  return `#/${page}${text ? `?${text}` : ""}`;
}

/**
 * Return a table. `columns` are [{name, cell(row), kind, tone}]; kind "number" sets figures to the right, "actions" holds buttons, and
 * `tone` is the colour that stands for the column in a bar.
 * On a narrow page each row becomes a card, hence the roles: without them its display would take the table's meaning away.
 */
export function table(caption, columns, rows, keyOf) {
  const head = columns.map(({ name, kind, tone }) =>
    h(
      "th",
      { scope: "col", role: "columnheader", class: kind },
      tone && h("span", { class: `swatch ${tone}`, "aria-hidden": "true" }),
      kind === "actions" ? h("span", { class: "unseen" }, name) : name,
    ),
  );
  const lines = rows.map((row) =>
    h(
      "tr",
      { key: keyOf(row), role: "row" },
      columns.map(({ name, cell, kind }, index) => {
        const first = index === 0;
        return h(
          first ? "th" : "td",
          { scope: first ? "row" : null, role: first ? "rowheader" : "cell", class: kind, "data-name": name },
          kind === "actions" ? cell(row) : h("div", null, cell(row)),
        );
      }),
    ),
  );
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, lines),
    ),
  );
}

/** Return a titled part of a page; `aside` stands at the right of its title. */
export const card = (title, aside, ...content) =>
  h("section", { class: "card", key: `card ${title}` }, h("div", { class: "card-head" }, h("h2", null, title), aside), content);

/** Return the head of a page. */
export const head = (title, lead, ...aside) =>
  h(
    "div",
    { class: "head" },
    h("div", null, h("h1", { tabindex: "-1" }, title), lead && h("p", { class: "lead" }, lead)),
    h("div", { class: "buttons" }, aside),
  );

/** Return a figure with its name, and a line below it. */
export const tile = (name, value, below, tone = "", picture = null) =>
  h(
    "div",
    { class: `tile ${tone}`.trim() },
    h("dt", null, name),
    h("dd", null, h("span", { class: "figure" }, value), h("span", { class: "below" }, below), picture),
  );

/** Return what stands where there is nothing. */
export const empty = (title, text, ...more) =>
  h(
    "div",
    { class: "empty" },
    s("svg", { viewBox: "0 0 48 48", "aria-hidden": "true" }, s("path", { d: "M8 28l6-14h20l6 14v10H8zM8 28h10l2 4h8l2-4h10" })),
    h("p", { class: "empty-title" }, title),
    text && h("p", null, text),
    more,
  );

/** Return what stands while a page is read for the first time. */
export const loading = () =>
  h(
    "div",
    { class: "loading", role: "status" },
    h("span", { class: "unseen" }, "Loading"),
    h("div", { class: "bone wide" }),
    h("div", { class: "bone tall" }),
    h("div", { class: "bone" }),
    h("div", { class: "bone" }),
  );

/** Return what stands where a page cannot be read. */
export const broken = (message, again) =>
  h(
    "div",
    { class: "empty", role: "alert" },
    h("p", { class: "empty-title" }, "This page cannot be shown now"),
    h("p", null, visible(message)),
    h("button", { type: "button", on: { click: again } }, "Try again"),
  );

/** Return a bar of shares: [[share from 0 to 1, tone], ...]. */
export function bar(label, shares) {
  let x = 0;
  const parts = shares.map(([share, tone]) => {
    const width = Math.max(0, Math.min(share, 1 - x)) * 100;
    const part = s("rect", { class: tone, x: `${x * 100}%`, width: `${width}%`, height: "100%" });
    x += width / 100;
    return part;
  });
  return s(
    "svg",
    { class: "share", role: "img", "aria-label": label },
    s("rect", { class: "ground", width: "100%", height: "100%" }),
    parts,
  );
}

/** Return a list of names and values. */
export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs.filter(([, value]) => value).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );

/** Return a button; `kind` is primary, danger, quiet or small. */
export const button = (words, click, kind = "", more = {}) => h("button", { type: "button", class: kind, on: { click }, ...more }, words);

/** Return a select whose choice is told to `change`. */
export function choice(label, name, value, options, change) {
  const known = options.some(([key]) => key === value) ? options : [...options, [value, visibleOption(value)]];
  return h(
    "label",
    { class: "field" },
    h("span", null, label),
    h(
      "select",
      { name, on: { change: (event) => change(event.target.value) } },
      known.map(([key, words]) => h("option", { value: key, selected: key === value }, words)),
    ),
  );
}

const visibleOption = (value) => (value === "" ? "All" : data(value).textContent);

/** Return names as options, with "All" before them. */
export const named = (names) => [["", "All"], ...names.map((name) => [name, data(name).textContent])];

/** Return the links through pages of a long list. */
export const pager = (shown, hasMore, { isFirst, first, next }) =>
  h(
    "nav",
    { class: "pager", "aria-label": "Pages of this list" },
    h("span", { class: "faint" }, `${number(shown)} shown`),
    !isFirst && h("a", { class: "as-button", href: first }, "Back to the newest"),
    hasMore && h("a", { class: "as-button", href: next, rel: "next" }, "Next page"),
  );
