// Times, durations, numbers and foreign text in the words that people read.

import { h } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const ABSOLUTE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SKEW_MIN_MS = 5_000; // the Date header counts in seconds

let skewMs = 0;

/** Learn how far the server's clock is ahead, from the Date header of an answer. */
export function learnTime(header) {
  const ahead = Date.parse(header ?? "") - Date.now();
  if (Number.isFinite(ahead)) skewMs = Math.abs(ahead) > SKEW_MIN_MS ? ahead : 0;
}

/** Return the server's time in ms since 1970. */
export const now = () => Date.now() + skewMs;

/** Return a number with its thousands apart; a dash for none. */
export const number = (value) => (Number.isFinite(value) ? NUMBER.format(value) : "–");

/** Return a number in at most five characters: 12.3K. */
export const compact = (value) => (Math.abs(value) >= 10_000 ? COMPACT.format(value) : number(value));

/** Return a share from 0 to 1 as a percentage that never rounds up to 100%. */
export function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const hundredths = share < 1 ? Math.floor(share * 10_000) : 10_000;
  return `${(hundredths / 100).toFixed(hundredths % 100 ? (hundredths % 10 ? 2 : 1) : 0)}%`;
}

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

/** Return a duration in words of two units at most: "3 min 20 s", "1.24 s", "18 ms". */
export function duration(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "–";
  if (milliseconds < 10) return `${Number(milliseconds.toPrecision(2))} ms`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 9_995) return `${(milliseconds / 1000).toFixed(2)} s`;
  let rest = Math.round(milliseconds / 1000);
  const parts = [];
  for (const [unit, seconds] of UNITS) {
    const count = Math.floor(rest / seconds);
    rest -= count * seconds;
    if (count) parts.push(`${count} ${unit}`);
    else if (parts.length) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "0 s";
}

/** Return seconds in one unit, and the next smaller one only where the first is a single digit. */
function rough(seconds) {
  const [unit, size] = UNITS.find(([, length]) => seconds >= length) ?? UNITS.at(-1);
  return Math.floor(seconds / size) >= 10 || size === 1
    ? `${Math.floor(seconds / size)} ${unit}`
    : duration(seconds * 1000).replace(".00", "");
}

function relative(at) {
  const distance = at - now();
  if (Math.abs(distance) < 1_000) return "now";
  const words = rough(Math.floor(Math.abs(distance) / 1000));
  return distance < 0 ? `${words} ago` : `in ${words}`;
}

/** Return a time element that counts on by itself; the absolute time is its title. A dash for none. */
export function when(iso) {
  const at = Date.parse(iso ?? "");
  if (!Number.isFinite(at)) return h("span", { class: "faint" }, "–");
  return h("time", { datetime: iso, title: absolute(iso), "data-at": at }, relative(at));
}

/** Return a time as date and clock, in the reader's zone. */
export const absolute = (iso) => ABSOLUTE.format(new Date(iso));

/** Return hours and minutes of a time. */
export const clock = (iso) => CLOCK.format(new Date(iso));

/** Let every relative time on the page count on. */
export function countOn() {
  for (const node of document.querySelectorAll("time[data-at]")) {
    const words = relative(Number(node.dataset.at));
    if (node.textContent !== words) node.textContent = words;
  }
}

const WORD_MAX = 20; // what is longer may be broken anywhere, so that it does not widen its column

// Controls that are not seen, and those that turn the direction of what follows, could make one text look like another.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Return text with the characters that nobody sees written out, as "\u202e". */
export const visible = (text) => String(text).replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Return foreign text as an element that keeps its direction to itself; `kind` adds a class. */
export function data(text, kind = "") {
  const shown = visible(text ?? "–");
  return h("bdi", { class: ["data", shown.length > WORD_MAX && "long", kind].filter(Boolean).join(" ") }, shown);
}

/** Return a JSON value in lines. */
export const pretty = (value) => visible(JSON.stringify(value, null, 2) ?? "null");
