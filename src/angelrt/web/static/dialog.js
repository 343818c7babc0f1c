// Dialogs that ask before something is done, and the words that say what was done.

import { ApiError } from "./api.js";
import { h } from "./dom.js";
import { visible } from "./format.js";

const TOAST_MS = 8_000;
let count = 0;

/**
 * Ask in a dialog, do it, and say what happened.
 *
 * `fields` are [{name, label, type, value, help, required, isHalf}]; "lines" have `rows`, a "choice" has `options`, and `change(value, byName)` that is
 * told what was chosen. `run(values)` does it and returns the words for what happened. What it refuses is shown in the dialog, beside the
 * fields at fault, and the dialog stays. Resolves to whether it was done.
 */
export function ask({ title, text, action, danger = false, fields = [], run }) {
  const id = `ask-${(count += 1)}`;
  const inputs = fields.map((field) => input(field, `${id}-${field.name}`));
  const byName = Object.fromEntries(inputs.map((one) => [one.name, one]));
  for (const { name, change } of fields.filter((field) => field.change)) {
    byName[name].control.addEventListener("change", (event) => change(event.target.value, byName));
  }
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const go = h("button", { class: danger ? "danger" : "primary", type: "submit" }, action);
  const form = h(
    "form",
    { novalidate: true },
    h("h2", { id: `${id}-title` }, visible(title)),
    [text]
      .flat()
      .filter(Boolean)
      .map((line) => h("p", { class: "lead" }, visible(line))),
    inputs.map((one) => one.row),
    problem,
    h("div", { class: "buttons" }, h("button", { type: "button", class: "quiet", on: { click: () => dialog.close() } }, "Leave it"), go),
  );
  const dialog = h("dialog", { class: "ask", "aria-labelledby": `${id}-title` }, form);
  let done = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    clear(inputs, problem);
    try {
      const words = await run(Object.fromEntries(inputs.map((one) => [one.name, one.read()])));
      done = true;
      dialog.close();
      say(words);
    } catch (error) {
      refuse(error, inputs, problem);
    }
    go.disabled = false;
  });
  document.body.append(dialog);
  dialog.showModal();
  (inputs[0]?.control ?? go).focus();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    }),
  );
}

function input({ name, label, type = "text", value = "", help = "", required = false, options = [], rows = 12, isHalf = false }, id) {
  const described = `${id}-help ${id}-error`;
  const error = h("span", { class: "problem", id: `${id}-error`, hidden: true });
  const common = { id, name, required, "aria-describedby": described, autocomplete: "off", spellcheck: "false" };
  const hint = h("span", { class: "hint", id: `${id}-help` });
  const describe = (words) => {
    hint.textContent = visible(words);
    hint.hidden = !words;
  };
  describe(help);
  let control;
  if (type === "lines") control = h("textarea", { ...common, class: "code", rows });
  else if (type === "choice") {
    control = h(
      "select",
      common,
      options.map((one) => h("option", { value: one }, visible(one))),
    );
  } else control = h("input", { ...common, type, step: type === "number" ? "any" : null });
  if (type === "checkbox") control.checked = Boolean(value);
  else control.value = value;
  const read = () => {
    if (control.validity.badInput) throw new ApiError(422, "", [{ field: name, message: "This is no number." }]);
    if (required && (type === "checkbox" ? !control.checked : !control.value.trim())) {
      throw new ApiError(422, "", [{ field: name, message: type === "checkbox" ? "Confirm this first." : "This is needed." }]);
    }
    if (type === "checkbox") return control.checked;
    return type === "choice" ? control.value : control.value.trim();
  };
  const named = [h("label", { for: id }, label), control];
  const row = h(
    "div",
    { class: ["field", type === "checkbox" && "check", isHalf && "half"].filter(Boolean).join(" ") },
    type === "checkbox" ? named.reverse() : named,
    hint,
    error,
  );
  return { name, control, error, describe, read, row };
}

function clear(inputs, problem) {
  problem.hidden = true;
  for (const one of inputs) {
    one.error.hidden = true;
    one.error.textContent = "";
    one.control.removeAttribute("aria-invalid");
  }
}

function refuse(error, inputs, problem) {
  const others = [];
  for (const { field, message } of error.fields ?? []) {
    const own = inputs.find((one) => field === one.name || field.startsWith(`${one.name}.`));
    if (!own) {
      others.push(`${field}: ${message}`);
      continue;
    }
    const inner = field.slice(own.name.length + 1); // of one field that holds many
    own.error.append(own.error.textContent && "\n", visible(inner ? `${inner}: ${message}` : message));
    own.error.hidden = false;
    own.control.setAttribute("aria-invalid", "true");
  }
  problem.textContent = visible([others.length || !error.fields?.length ? error.message : "", ...others].filter(Boolean).join("\n"));
  problem.hidden = !problem.textContent;
  (inputs.find((one) => !one.error.hidden)?.control ?? inputs[0]?.control)?.focus();
}

/** Say what happened, for the eyes and for a screen reader. */
export function say(words) {
  const close = () => toast.remove();
  const toast = h(
    "div",
    { class: "toast" },
    h("span", null, visible(words)),
    h("button", { class: "quiet", type: "button", "aria-label": "Dismiss", on: { click: close } }, "×"),
  );
  document.getElementById("toasts").append(toast);
  const leave = () => (toast.matches(":hover, :focus-within") ? setTimeout(leave, TOAST_MS) : close());
  setTimeout(leave, TOAST_MS);
}

/** Show a dialog that only tells something. */
export function tell(title, ...content) {
  const id = `ask-${(count += 1)}`;
  const close = h("button", { class: "primary", type: "button", on: { click: () => dialog.close() } }, "Close");
  const dialog = h(
    "dialog",
    { class: "ask", "aria-labelledby": id },
    h("h2", { id }, title),
    content,
    h("div", { class: "buttons" }, close),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}
