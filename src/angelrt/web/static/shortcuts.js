// Keys for people who do not reach for the pointer. They can be turned off: speech input types letters, too.

import { h } from "./dom.js";
import { own } from "./parts.js";

const OFF = "angelrt-shortcuts-off";
const SEQUENCE_MS = 1_200;

/** Listen for keys; `act` are {key: {words, may, run}}. Returns {describe}, which gives the help's content. */
export function shortcuts({ pages, go, refresh, help, act }) {
  let started = 0;
  const single = {
    "?": help,
    r: refresh,
    "/": () => document.querySelector("#page input[type=search]")?.focus(),
    g: () => (started = Date.now()),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (isOff() && event.key !== "?") return;
    const page = Date.now() - started < SEQUENCE_MS && pages.find(({ key }) => key === event.key);
    const action = page ? () => go(page.hash) : (single[event.key] ?? (own(act, event.key)?.may() && act[event.key].run));
    if (!action) return;
    event.preventDefault();
    if (event.key !== "g" || page) started = 0;
    action();
  });
  return { describe: () => describe(pages, act) };
}

const isTyping = (target) => target.closest?.("input, select, textarea, [contenteditable]") !== null;

function isOff() {
  try {
    return localStorage.getItem(OFF) === "1";
  } catch {
    return false; // no storage here
  }
}

function turn(off) {
  try {
    if (off) localStorage.setItem(OFF, "1");
    else localStorage.removeItem(OFF);
  } catch {
    // it then holds for this key stroke alone
  }
}

function describe(pages, act) {
  const rows = [
    ["?", "Show this"],
    ["/", "Search"],
    ["r", "Read the page anew"],
    ...Object.entries(act)
      .filter(([, { may }]) => may())
      .map(([key, { words }]) => [key, words]),
    ["Esc", "Close a dialog"],
    ...pages.map(({ key, words }) => [`g ${key}`, words]),
  ];
  const box = h("input", {
    type: "checkbox",
    id: "single-keys",
    checked: !isOff(),
    on: { change: (event) => turn(!event.target.checked) },
  });
  return [
    h(
      "dl",
      { class: "keys" },
      rows.map(([keys, words]) =>
        h(
          "div",
          null,
          h(
            "dt",
            null,
            keys.split(" ").map((key) => h("kbd", null, key)),
          ),
          h("dd", null, words),
        ),
      ),
    ),
    h("div", { class: "field check" }, box, h("label", { for: "single-keys" }, "Use single-letter keys")),
  ];
}
