// The audit log: who did what, and who looked at what is hidden.

import { get, path } from "../api.js";
import { data, when } from "../format.js";
import { badge, card, empty, head, table } from "../parts.js";

const COLUMNS = [
  { name: "Action", cell: (entry) => data(entry.action) },
  { name: "What", cell: (entry) => data(typeof entry.what === "string" ? entry.what : JSON.stringify(entry.what), "mono") },
  { name: "Who", cell: (entry) => data(entry.who) },
  { name: "Role", cell: (entry) => badge(entry.role ?? "", entry.role ?? "–") },
  { name: "When", cell: (entry) => when(entry.at) },
];

export function audit() {
  return {
    load: (signal) => get(path("audit"), null, signal),
    view: ({ entries = [] }) => [
      head("Audit log", "What operators did here, and what they looked at. The newest first."),
      entries.length
        ? card(
            "Entries",
            null,
            table("Audit log", COLUMNS, entries, (entry) => entry.id ?? `${entry.at} ${entry.action} ${JSON.stringify(entry.what)}`),
          )
        : empty("Nothing was done here yet", "Each action of an operator leaves an entry."),
    ],
  };
}
