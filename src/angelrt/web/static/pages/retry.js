// Editing a failed job's arguments before it runs again.

import { path, post, reveal } from "../api.js";
import { say } from "../dialog.js";
import { readArguments } from "./arguments.js";

/** Show a failed job's arguments, and retry it with what was made of them. Only what was changed is sent, so what is redacted stays. */
export async function editAndRetry(ctx, id) {
  let before;
  try {
    before = (await reveal(path("jobs", id))).payload ?? {};
  } catch (error) {
    say(error.message);
    return;
  }
  await ctx.act({
    title: `Edit job ${id} and retry it`,
    text: "The arguments by name, as JSON. That you have looked at them is kept in the audit log.",
    action: "Retry",
    fields: [{ name: "arguments", label: "Arguments", type: "lines", value: JSON.stringify(before, null, 2), required: true }],
    run: async (values) => {
      await post(path("jobs", id, "retry"), changes(before, readArguments(values.arguments)));
      return `Job ${id} waits to run again.`;
    },
  });
}

function changes(before, after) {
  const isNew = ([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]);
  return {
    arguments: Object.fromEntries(Object.entries(after).filter(isNew)),
    without: Object.keys(before).filter((name) => !Object.hasOwn(after, name)),
  };
}
