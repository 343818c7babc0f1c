// Limits and quotas: what holds for the whole fleet, what was changed, and what is paused.

import { get, path, post, put } from "../api.js";
import { h } from "../dom.js";
import { data, number, when } from "../format.js";
import { badge, bar, button, card, empty, head, table } from "../parts.js";

const NEARLY = 0.8; // from this share on a limit is about to hold jobs back

export function limits(ctx) {
  return {
    load: (signal) => get(path("limits"), null, signal),
    view: ({ rules = [], usage = [], pauses = [] }) => [
      head(
        "Limits and quotas",
        "They hold for the whole fleet, and can be changed while it runs.",
        ctx.may && button("Pause a key", () => pauseKey(ctx), ""),
      ),
      rules.length
        ? card(
            "Limits",
            null,
            table("Limits", ruleColumns(ctx, new Map(usage.map((use) => [use.rule, use]))), rules, (rule) => rule.name),
          )
        : empty("No limit is declared", "Declare some with limits=[Concurrency(...), RateLimit(...)]; workers store them when they start."),
      card(
        "Paused and drained",
        null,
        pauses.length
          ? table("Paused and drained", pauseColumns(ctx), pauses, (pause) => `${pause.how} ${pause.kind} ${pause.name}`)
          : h("p", { class: "faint" }, "Nothing is paused or drained."),
      ),
    ],
  };
}

function ruleColumns(ctx, usage) {
  return [
    { name: "Limit", cell: (rule) => data(rule.name, "mono") },
    {
      name: "Holds",
      cell: (rule) => [data(rule.limit), rule.declared && h("span", { class: "faint block" }, "declared: ", data(rule.declared))],
    },
    { name: "In use", kind: "usage", cell: (rule) => inUse(usage.get(rule.name)) },
    { name: "State", cell: (rule) => (rule.declared ? badge("paused", "Changed") : badge("ok", "As declared")) },
    ...(ctx.may ? [{ name: "Actions", kind: "actions", cell: (rule) => ruleActions(ctx, rule) }] : []),
  ];
}

function inUse(use) {
  if (!use) return h("span", { class: "faint" }, "–");
  const more = use.inUse - use.gates.length;
  return [
    use.gates.length ? use.gates.map((gate) => gateUse(use, gate)) : gateUse(use, { value: "", taken: 0 }),
    more > 0 && h("p", { class: "faint" }, `and ${use.hasMore ? "at least " : ""}${number(more)} more ${more === 1 ? "value" : "values"}`),
    more <= 0 && use.hasMore && h("p", { class: "faint" }, "Other values may be in use."),
  ];
}

function gateUse(use, gate) {
  const share = gate.taken / use.most;
  const words = `${number(gate.taken)} of ${number(use.most)}`;
  return h(
    "div",
    { class: "use" },
    h(
      "div",
      { class: "use-words" },
      gate.value !== "" && valueOf(gate),
      h("span", null, words),
      share >= NEARLY && badge("nearly", share >= 1 ? "Used up" : "Nearly used"),
    ),
    bar(`${words} taken`, [[share, share >= NEARLY ? "warn" : "live"]]),
  );
}

const valueOf = (gate) =>
  gate.value === null ? h("span", { class: "faint" }, gate.valueHidden ? "a hidden value" : "an unknown value") : data(gate.value);

const ruleActions = (ctx, rule) => [
  button("Change", () => change(ctx, rule), "small", { key: "change", "aria-label": `Change ${rule.name}` }),
  rule.declared &&
    button("Take back", () => takeBack(ctx, rule), "small", { key: "back", "aria-label": `Take the change of ${rule.name} back` }),
];

function change(ctx, rule) {
  const rate = rule.limit.match(/^(\d+)\/(\S+?)(?:, (\d+) at once)?$/);
  return ctx.act({
    title: `Change limit ${rule.name}`,
    text: `It is now ${rule.limit}. The change holds for the whole fleet at once, until it is taken back.`,
    action: "Change",
    fields: [
      rate
        ? {
            name: "limit",
            label: "Rate",
            value: `${rate[1]}/${rate[2]}`,
            required: true,
            help: "A number over the same window, as 500/day.",
          }
        : {
            name: "limit",
            label: "At a time",
            type: "number",
            value: rule.limit.match(/^\d+/)?.[0] ?? "",
            required: true,
            help: "How many may run at once.",
          },
      ...(rate
        ? [
            {
              name: "burst",
              label: "At once",
              type: "number",
              value: rate[3] ?? "",
              help: "How many may begin at once; empty: the whole rate.",
            },
          ]
        : []),
    ],
    run: async ({ limit, burst }) => {
      await put(path("limits"), { rule: rule.name, limit: rate ? limit : Number(limit), ...(burst ? { burst: Number(burst) } : {}) });
      return `The limit ${rule.name} is now ${limit}.`;
    },
  });
}

const takeBack = (ctx, rule) =>
  ctx.act({
    title: `Take the change of ${rule.name} back?`,
    text: `It will be ${rule.declared} again, as the code declares.`,
    action: "Take back",
    run: async () => {
      await put(path("limits"), { rule: rule.name, limit: null });
      return `The limit ${rule.name} is ${rule.declared} again.`;
    },
  });

function pauseColumns(ctx) {
  return [
    { name: "Name", cell: (pause) => data(decoded(pause.name), "mono") },
    { name: "Kind", cell: (pause) => data(pause.kind) },
    { name: "How", cell: (pause) => badge(pause.how, pause.how === "drained" ? "Drained" : "Paused") },
    { name: "By", cell: (pause) => data(pause.by) },
    { name: "Since", cell: (pause) => when(pause.at) },
    { name: "Reason", cell: (pause) => data(pause.reason || "–") },
    ...(ctx.may
      ? [
          {
            name: "Actions",
            kind: "actions",
            cell: (pause) => button("Resume", () => resume(ctx, pause), "small", { "aria-label": `Resume ${pause.name}` }),
          },
        ]
      : []),
  ];
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // not quoted
  }
}

const resume = (ctx, pause) =>
  ctx.act({
    title: `Resume ${pause.kind} ${decoded(pause.name)}?`,
    text: "What has waited may begin at once, and new jobs are taken again.",
    action: "Resume",
    run: async () => {
      await (pause.kind === "key" ? post(path("keys", "resume"), { key: pause.name }) : post(path(`${pause.kind}s`, pause.name, "resume")));
      return `The ${pause.kind} ${decoded(pause.name)} goes on.`;
    },
  });

const pauseKey = (ctx) =>
  ctx.act({
    title: "Pause a key",
    text: "No job of this value begins until somebody resumes it, under any limit that goes by the argument.",
    action: "Pause",
    fields: [
      {
        name: "key",
        label: "Key",
        required: true,
        help: "argument=value, as customer_id=7; or rule=value, as a job's explanation shows it.",
      },
      { name: "reason", label: "Reason", help: "Others see it beside who did it and when." },
    ],
    run: async ({ key, reason }) => {
      await post(path("keys", "pause"), reason ? { key, reason } : { key });
      return `The key ${key} is paused.`;
    },
  });
