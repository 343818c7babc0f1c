// Sending a job by hand, to an actor that is declared in the process of the app.

import { getExact, path, post } from "../api.js";
import { ask, say } from "../dialog.js";
import { visible } from "../format.js";
import { jobHref } from "../parts.js";
import { readArguments } from "./arguments.js";

const ID_BYTES = 12;
const FIRST_LINE = /^.*/;
const OPTIONS = [
  { name: "options.id", label: "Id", help: "An id is sent only once." },
  { name: "options.queue", label: "Queue", help: "Instead of the actor's." },
  { name: "options.delay", label: "Delay", type: "number", help: "In seconds." },
  { name: "options.priority", label: "Priority", type: "number", help: "0 is first, 9 is last." },
];

/** Ask which job, send it, and go to its page. */
export async function sendJob(ctx) {
  let actors;
  try {
    actors = (await getExact(path("actors"))).actors.filter(({ kind }) => kind !== null);
  } catch (error) {
    say(error.message);
    return;
  }
  if (!actors.length) {
    say("No actor is declared in the application that this dashboard was started with.");
    return;
  }
  if (document.querySelector("dialog[open]")) return; // a second press came while the first one read
  await ask(form(ctx, new Map(actors.map((actor) => [actor.name, actor]))));
}

function form(ctx, actors) {
  const first = actors.get(ctx.route.query.actor) ?? actors.values().next().value;
  const drafts = new Map(); // what was typed for an actor is there again when it is chosen again
  const ownId = newId(); // a send that got no answer is safe to repeat
  let chosen = first;
  const choose = (name, fields) => {
    drafts.set(chosen.name, fields.arguments.control.value);
    chosen = actors.get(name);
    fields.arguments.control.value = drafts.get(name) ?? prefilled(chosen);
    fields.arguments.describe(wanted(chosen));
    fields.actor.describe(about(chosen));
  };
  return {
    title: "Send a job",
    action: "Send",
    fields: [
      { name: "actor", label: "Actor", type: "choice", value: first.name, options: [...actors.keys()], help: about(first), change: choose },
      { name: "arguments", label: "Arguments", type: "lines", value: prefilled(first), help: wanted(first), required: true, rows: 7 },
      ...OPTIONS.map((option) => ({ ...option, isHalf: true })),
    ],
    run: async ({ actor, arguments: text, ...options }) => {
      const sent = await post(path("jobs"), { actor, arguments: readArguments(text), options: given(options, ownId) });
      ctx.go(jobHref(sent.id));
      return sent.isNew ? `Job ${sent.id} is sent.` : `Job ${sent.id} was there already: nothing was sent.`;
    },
  };
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(ID_BYTES));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function given(options, ownId) {
  const named = OPTIONS.map(({ name, type }) => [name.split(".")[1], options[name], type]).filter(([, text]) => text !== "");
  return { id: ownId, ...Object.fromEntries(named.map(([name, text, type]) => [name, type === "number" ? Number(text) : text])) };
}

/** Return what to fill in: defaults, and null for what has none. A secret has a default that is not shown: it is left out. */
function prefilled({ schema }) {
  const isShown = ([name, one]) => "default" in one || schema.required?.includes(name);
  const shown = Object.entries(schema?.properties ?? {}).filter(isShown);
  return JSON.stringify(Object.fromEntries(shown.map(([name, one]) => [name, one.default ?? null])), null, 2);
}

const about = ({ description, queue }) => `${FIRST_LINE.exec(description ?? "")[0]} Queue: ${queue}`.trim();

function wanted({ schema }) {
  if (!schema) return "One JSON object.";
  const told = Object.entries(schema.properties ?? {}).map(([name, one]) => {
    const isNeeded = schema.required?.includes(name);
    return `${name}: ${kindOf(one)}${isNeeded ? "" : ", optional"}`;
  });
  return told.length ? told.join("\n") : "It takes no arguments.";
}

function kindOf({ type, anyOf, $ref, enum: values }) {
  if (values) return values.map((one) => JSON.stringify(one)).join(" or ");
  return String(type ?? anyOf?.map(kindOf).join(" or ") ?? $ref?.split("/").at(-1) ?? "anything");
}
