// Alerts: the rules that the code declares, how they stand, and what they did.

import { get, path } from "../api.js";
import { h } from "../dom.js";
import { data, duration, percent, when } from "../format.js";
import { badge, card, empty, facts, head, own, table } from "../parts.js";

const WORDS = { ok: "Fine", firing: "Firing", unknown: "Not known yet", resolved: "Over" };
const ORDER = { firing: 0, unknown: 1, ok: 2 };

export function alerts(ctx) {
  return {
    async load(signal) {
      const told = await get(path("alerts"), null, signal);
      ctx.told("alerts", (told.alerts ?? []).filter(({ state }) => state === "firing").length);
      return told;
    },
    view: ({ alerts: list = [], history = [] }) => [
      head("Alerts", "Rules on the figures of the whole fleet, declared in code."),
      list.length
        ? h("ul", { class: "cards" }, list.toSorted((a, b) => (own(ORDER, a.state) ?? 3) - (own(ORDER, b.state) ?? 3)).map(one))
        : empty("No alert is declared", "Declare some with Runtime(alerts=[...]); workers and the dashboard look at them."),
      list.length > 0 &&
        card(
          "History",
          null,
          history.length
            ? table(
                "What alerts did",
                columns(new Map(list.map(({ name, unit }) => [name, unit]))),
                history,
                (entry) => `${entry.at} ${entry.name} ${entry.state}`,
              )
            : h("p", { class: "faint" }, "No alert has fired yet."),
        ),
    ],
  };
}

const one = (alert) =>
  h(
    "li",
    { class: `card alert ${alert.state}`, key: alert.name },
    h("div", { class: "card-head" }, h("h2", null, data(alert.name)), badge(alert.state, own(WORDS, alert.state))),
    alert.description && h("p", { class: "lead" }, data(alert.description)),
    facts([
      ["Now", value(alert.value, alert.unit)],
      ["Threshold", value(alert.threshold, alert.unit)],
      ["Since", alert.since && when(alert.since)],
    ]),
  );

const UNITS = { share: percent, s: (seconds) => duration(seconds * 1000), ms: duration };

function value(figure, unit) {
  if (!Number.isFinite(figure)) return "–";
  return own(UNITS, unit)?.(figure) ?? [String(Number(figure.toPrecision(4))), unit && " ", unit && data(unit)];
}

const columns = (units) => [
  { name: "Alert", cell: (entry) => data(entry.name) },
  { name: "State", cell: (entry) => badge(entry.state, own(WORDS, entry.state)) },
  { name: "Value", kind: "number", cell: (entry) => value(entry.value, units.get(entry.name)) },
  { name: "When", cell: (entry) => when(entry.at) },
];
