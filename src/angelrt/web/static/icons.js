// The pictures of the menu: strokes on a field of 20 by 20.

import { s } from "./dom.js";

const STROKES = {
  overview: "M3 13a7 7 0 0 1 14 0M10 13l3.5-4M5.5 16.5h9",
  queues: "M3 5h14M3 10h14M3 15h9",
  jobs: "M4 4h12v12H4zM7 10l2 2 4-4",
  workers: "M6 6h8v8H6zM8 3v3M12 3v3M8 14v3M12 14v3M3 8h3M3 12h3M14 8h3M14 12h3",
  schedules: "M10 3a7 7 0 1 0 .01 0M10 6.5V10l2.5 2",
  limits: "M3 6h6M13 6h4M3 14h3M10 14h7M11 6a1.8 1.8 0 1 0-.01 0M8 14a1.8 1.8 0 1 0-.01 0",
  failed: "M3 11l2.5-7h9L17 11v5H3zM3 11h4l1 2h4l1-2h4",
  alerts: "M5.5 13V9a4.5 4.5 0 0 1 9 0v4l1.5 1.5H4zM8.5 17h3",
  audit: "M5 3h7l3 3v11H5zM8 9h4M8 12h4",
};

/** Return the picture of a page. */
export const icon = (name) => s("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, s("path", { d: STROKES[name] }));
