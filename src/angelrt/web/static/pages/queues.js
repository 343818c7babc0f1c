// Queues and actors: how many jobs stand where, and pause, resume and drain.

import { get, getOr, path, post } from "../api.js";
import { h } from "../dom.js";
import { data, duration, number } from "../format.js";
import { badge, button, card, empty, head, href, table } from "../parts.js";
import { depthBar } from "./overview.js";

const TEXTS = {
  pause: "No job of it begins until somebody resumes it. What runs goes on; what is sent waits.",
  resume: "What has waited may begin at once, and new jobs are taken again.",
  drain: "New jobs are refused with an error for their sender. What is there runs out.",
};
const WORDS = { pause: ["Pause", "is paused"], resume: ["Resume", "goes on"], drain: ["Drain", "is drained: it takes no new jobs"] };

export function queues(ctx) {
  return {
    async load(signal) {
      const [one, two] = await Promise.all([get(path("queues"), null, signal), getOr({ actors: [] }, path("actors"), null, signal)]);
      return { queues: one.queues ?? [], actors: two.actors ?? [] };
    },
    view: (told) => [
      head("Queues", "Where jobs wait, and the actors that they call."),
      card(
        "Queues",
        null,
        told.queues.length
          ? table("Queues", columns(ctx), told.queues, (queue) => queue.queue)
          : empty("No queue yet", "A queue appears when a worker serves it or the first job is sent to it."),
      ),
      card(
        "Actors",
        null,
        told.actors.length
          ? table("Actors", actorColumns(ctx), told.actors, (actor) => actor.name)
          : empty("No actor is declared here", "The application that this dashboard was started with declares none."),
      ),
    ],
  };
}

const standing = (one) => (one.isPaused ? badge("paused", "Paused") : one.isDraining ? badge("drained", "Drained") : badge("ok", "Open"));

function columns(ctx) {
  return [
    { name: "Queue", cell: (queue) => h("a", { href: href("jobs", { queue: queue.queue }) }, data(queue.queue)) },
    { name: "State", cell: standing },
    { name: "Jobs", cell: depthBar, kind: "wide" },
    { name: "Running", kind: "number", tone: "live", cell: (queue) => number(queue.leased) },
    { name: "Ready", kind: "number", tone: "first", cell: (queue) => number(queue.ready) },
    { name: "In lanes", kind: "number", tone: "second", cell: (queue) => number(queue.lanes) },
    { name: "Delayed", kind: "number", tone: "quiet", cell: (queue) => number(queue.delayed) },
    { name: "Oldest waits", kind: "number", cell: (queue) => duration(queue.oldestReadyMs ?? NaN) },
    ...(ctx.may ? [{ name: "Actions", kind: "actions", cell: (queue) => controls(ctx, "queues", queue.queue, queue) }] : []),
  ];
}

function actorColumns(ctx) {
  return [
    { name: "Actor", cell: (actor) => h("a", { href: href("jobs", { actor: actor.name }) }, data(actor.name)) },
    { name: "State", cell: standing },
    { name: "Queue", cell: (actor) => data(actor.queue) },
    { name: "Runs as", cell: (actor) => data(actor.kind) },
    { name: "Completed", kind: "number", cell: (actor) => number(actor.figures?.completed ?? 0) },
    { name: "Failed", kind: "number", cell: (actor) => number(actor.figures?.failed ?? 0) },
    { name: "Run p50", kind: "number", cell: (actor) => duration(actor.figures?.runP50Ms ?? NaN) },
    ...(ctx.may ? [{ name: "Actions", kind: "actions", cell: (actor) => controls(ctx, "actors", actor.name, actor) }] : []),
  ];
}

function controls(ctx, kind, name, one) {
  const words = one.isPaused || one.isDraining ? ["resume"] : ["pause", "drain"];
  return words.map((verb) =>
    button(WORDS[verb][0], () => ask(ctx, kind, name, verb), "small", { key: verb, "aria-label": `${WORDS[verb][0]} ${name}` }),
  );
}

function ask(ctx, kind, name, verb) {
  const what = kind === "queues" ? "queue" : "actor";
  return ctx.act({
    title: `${WORDS[verb][0]} ${what} ${name}?`,
    text: TEXTS[verb],
    action: WORDS[verb][0],
    danger: verb === "drain",
    fields: verb === "resume" ? [] : [{ name: "reason", label: "Reason", help: "Others see it beside who did it and when." }],
    run: async ({ reason }) => {
      await post(path(kind, name, verb), reason ? { reason } : {});
      return `The ${what} ${name} ${WORDS[verb][1]}.`;
    },
  });
}
