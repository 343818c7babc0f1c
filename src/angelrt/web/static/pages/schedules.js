// Schedules: what is sent by the clock.

import { get, path, post, remove } from "../api.js";
import { h } from "../dom.js";
import { data, duration, when } from "../format.js";
import { badge, button, card, empty, head, href, jobHref, table } from "../parts.js";

const TEXTS = {
  pause: "Nothing is sent by it until somebody resumes it.",
  resume: "It is sent again from its next time on.",
  remove: "It is forgotten, with the job that waits for its next time. One that the code declares comes back when a worker starts.",
};
const WORDS = { pause: ["Pause", "is paused"], resume: ["Resume", "goes on"], remove: ["Remove", "is removed"] };

export function schedules(ctx) {
  return {
    load: (signal) => get(path("schedules"), null, signal),
    view: ({ schedules: list = [] }) => [
      head("Schedules", "What is sent by the clock, by the whole fleet, without a leader."),
      list.length
        ? card(
            "Schedules",
            null,
            table("Schedules", columns(ctx), list, (one) => one.name),
          )
        : empty("No schedule yet", "Declare one with rt.schedule(...); workers store it when they start."),
    ],
  };
}

function columns(ctx) {
  return [
    { name: "Schedule", cell: (one) => data(one.name) },
    {
      name: "State",
      cell: (one) =>
        one.pausedAt
          ? [badge("paused", "Paused"), h("span", { class: "faint block" }, "by ", data(one.pausedBy), " ", when(one.pausedAt))]
          : badge("ok", "On"),
    },
    {
      name: "When",
      cell: (one) =>
        one.cron
          ? [h("code", null, data(one.cron)), h("span", { class: "faint block" }, data(one.zone))]
          : `every ${duration(one.every * 1000)}`,
    },
    {
      name: "Sends",
      cell: (one) => [
        h("a", { href: href("jobs", { actor: one.actor }) }, data(one.actor)),
        h("span", { class: "faint block" }, "in ", data(one.queue)),
      ],
    },
    { name: "Last", cell: (one) => when(one.lastAt) },
    { name: "Next", cell: next },
    ...(ctx.may ? [{ name: "Actions", kind: "actions", cell: (one) => controls(ctx, one) }] : []),
  ];
}

function next(one) {
  if (one.pausedAt) return h("span", { class: "faint" }, "–");
  return one.nextJob ? h("a", { href: jobHref(one.nextJob) }, when(one.nextAt)) : when(one.nextAt);
}

const controls = (ctx, one) =>
  [one.pausedAt ? "resume" : "pause", "remove"].map((verb) =>
    button(WORDS[verb][0], () => ask(ctx, one.name, verb), "small", { key: verb, "aria-label": `${WORDS[verb][0]} ${one.name}` }),
  );

const ask = (ctx, name, verb) =>
  ctx.act({
    title: `${WORDS[verb][0]} schedule ${name}?`,
    text: TEXTS[verb],
    action: WORDS[verb][0],
    danger: verb === "remove",
    run: async () => {
      await (verb === "remove" ? remove(path("schedules", name)) : post(path("schedules", name, verb)));
      return `The schedule ${name} ${WORDS[verb][1]}.`;
    },
  });
