// The page as a whole: who looks, which page is shown, and how it stays up to date.

import { ApiError, get, path, post } from "./api.js";
import { ask, say, tell } from "./dialog.js";
import { h, morph } from "./dom.js";
import { clock, countOn, number, visible } from "./format.js";
import { icon } from "./icons.js";
import { Live } from "./live.js";
import { broken, empty, loading } from "./parts.js";
import { shortcuts } from "./shortcuts.js";
import { alerts } from "./pages/alerts.js";
import { audit } from "./pages/audit.js";
import { failed } from "./pages/failed.js";
import { job } from "./pages/job.js";
import { jobs } from "./pages/jobs.js";
import { limits } from "./pages/limits.js";
import { overview } from "./pages/overview.js";
import { queues } from "./pages/queues.js";
import { schedules } from "./pages/schedules.js";
import { sendJob } from "./pages/send.js";
import { workers } from "./pages/workers.js";

const PAGES = [
  { name: "overview", hash: "", words: "Overview", key: "o", make: overview },
  { name: "queues", hash: "queues", words: "Queues", key: "q", make: queues },
  { name: "jobs", hash: "jobs", words: "Jobs", key: "j", make: (ctx) => (ctx.route.id ? job(ctx) : jobs(ctx)) },
  { name: "workers", hash: "workers", words: "Workers", key: "w", make: workers },
  { name: "schedules", hash: "schedules", words: "Schedules", key: "s", make: schedules },
  { name: "limits", hash: "limits", words: "Limits", key: "l", make: limits },
  { name: "failed", hash: "failed", words: "Dead letters", key: "d", make: failed },
  { name: "alerts", hash: "alerts", words: "Alerts", key: "a", make: alerts },
  { name: "audit", hash: "audit", words: "Audit log", key: "u", make: audit },
];
const COUNT_ON_MS = 1_000;
const AWAY = "Redis does not answer.";
const UNKNOWN_TOKEN = "This token is not known here. Ask whoever runs the dashboard.";
const REFUSED = {
  401: UNKNOWN_TOKEN,
  403: UNKNOWN_TOKEN,
  429: "This token is not known here either, and too many wrong ones have come. A right one is let in at any time.",
};

const me = { role: null, authRequired: false, canLogIn: true, title: "Queues" };
const badges = { failed: 0, alerts: 0 };
const mount = document.getElementById("page");
const live = new Live(refresh, connected);
let shown = null; // the page, its route, and how far it is with reading

function routeNow() {
  const [where, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = where.split("/").map(unquoted);
  return { name, id: rest.join("/"), query: Object.fromEntries(new URLSearchParams(query)) };
}

function unquoted(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // an address that was typed by hand
  }
}

/** What a page is given: the route, what the reader may do, and how to go on. */
function context(route) {
  return {
    route,
    may: me.role === "operator",
    refresh,
    isAway,
    told: (name, count) => tellBadge(name, count),
    act: async (options) => (await ask(options)) && refresh(),
    go: (hash, { quietly = false } = {}) => {
      if (!quietly) {
        location.hash = hash;
        return;
      }
      history.replaceState(null, "", hash);
      shown.route = Object.assign(route, routeNow());
      refresh();
    },
  };
}

function show({ focus = true } = {}) {
  shown?.aborter.abort();
  const route = routeNow();
  const entry = PAGES.find(({ hash }) => hash === route.name);
  drawNav(entry);
  closeMenu();
  if (!entry) {
    shown = null;
    mount.replaceChildren(
      h(
        "div",
        { class: "page" },
        h("h1", { tabindex: "-1" }, "No such page"),
        empty("There is no such page", "The address may be out of date.", h("a", { class: "as-button", href: "#/" }, "To the overview")),
      ),
    );
    return;
  }
  shown = { page: entry.make(context(route)), words: entry.words, route, aborter: new AbortController(), isRead: false };
  hideNotice();
  document.title = `${shown.page.title ?? entry.words} · ${me.title}`;
  mount.replaceChildren(h("div", { class: `page ${entry.name}` }, h("h1", { tabindex: "-1" }, shown.page.title ?? entry.words), loading()));
  if (isAway()) drawBroken(AWAY);
  window.scrollTo(0, 0);
  if (focus) mount.querySelector("h1").focus({ preventScroll: true });
  refresh();
}

/** Read the page's data anew, bring the page up to date, and return whether all was answered. Never throws: what goes wrong is shown. */
async function refresh() {
  const own = shown;
  if (!own) return false;
  if (own.isReading) {
    own.isStale = true;
    return false;
  }
  let isAnswered = false;
  own.isReading = true;
  own.isStale = false;
  try {
    const told = await own.page.load(own.aborter.signal);
    if (own !== shown) return false;
    draw(own.page.view(told));
    own.isRead = isAnswered = true;
    reached();
  } catch (error) {
    if (own === shown) await troubled(own, error);
  } finally {
    own.isReading = false;
  }
  return own.isStale && own === shown ? refresh() : isAnswered;
}

function draw(tree) {
  const holder = h("div", { class: mount.firstElementChild.className }, tree);
  const title = document.activeElement?.nodeName === "H1";
  morph(mount.firstElementChild, holder);
  if (title && document.activeElement === document.body) mount.querySelector("h1")?.focus({ preventScroll: true });
}

async function troubled(own, error) {
  if (error.name === "AbortError") return;
  if (error instanceof ApiError && error.status === 401) {
    login();
  } else if (error instanceof ApiError && error.status === 404 && own.page.missing) {
    draw(own.page.missing(error.message));
  } else {
    if (!(error instanceof ApiError)) console.error(error);
    failedToRead(isAway() ? AWAY : error.message);
  }
}

/** Say on the page that is shown what is the matter: above what was read of it, or in its place. */
function failedToRead(message) {
  if (shown?.isRead) unreached(message);
  else if (shown) drawBroken(message);
}

const drawBroken = (message) =>
  draw([h("h1", { tabindex: "-1" }, shown.page.title ?? shown.words), broken(message, () => refresh())]);

// -- connection ------------------------------------------------------------------------------------------------------------------------

let readAt = null;

function reached() {
  readAt = new Date();
  if (!isAway()) hideNotice();
}

function unreached(message) {
  const notice = document.getElementById("offline");
  const words = `${visible(message)} The page shows what was known at ${clock(readAt)}, and tries again by itself.`;
  if (notice.textContent !== words) notice.textContent = words;
  notice.hidden = false;
}

function hideNotice() {
  document.getElementById("offline").hidden = true;
}

const connection = document.getElementById("connection");
const CONNECTIONS = {
  live: ["Live", "Changes are shown as they happen."],
  away: ["Redis does not answer", "The page asks every three seconds until Redis is back, and shows what was known before."],
  reconnecting: ["Reconnecting", "The event stream is cut; the page asks every three seconds until it is back."],
};

const isAway = () => connection.dataset.state === "away";

function connected(state) {
  if (connection.dataset.state === state) return;
  if (isAway()) hideNotice();
  connection.dataset.state = state;
  [document.getElementById("connection-text").textContent, connection.title] = CONNECTIONS[state];
  if (isAway()) failedToRead(AWAY);
}

// -- menu ------------------------------------------------------------------------------------------------------------------------------

function drawNav(entry) {
  const nav = document.getElementById("nav");
  const items = PAGES.map(({ name, hash, words }) =>
    h(
      "li",
      { key: name },
      h(
        "a",
        { href: `#/${hash}`, "aria-current": name === entry?.name ? "page" : null },
        icon(name),
        h("span", null, words),
        badges[name] > 0 && h("span", { class: `count ${name === "alerts" ? "bad" : ""}` }, number(badges[name])),
      ),
    ),
  );
  const foot = h(
    "li",
    { class: "foot", key: "foot" },
    h("button", { class: "quiet small", type: "button", on: { click: help } }, "Keyboard", h("kbd", null, "?")),
    me.role && h("span", { class: "faint who" }, me.role === "operator" ? "You are an operator" : "You are a reader"),
    me.authRequired && me.role && h("button", { class: "quiet small", type: "button", on: { click: logout } }, "Log out"),
  );
  morph(nav, h("nav", { class: nav.className, id: "nav", "aria-label": "Pages" }, h("ul", null, items, foot)));
}

function tellBadge(name, count) {
  if (badges[name] === count) return;
  badges[name] = count;
  drawNav(PAGES.find(({ hash }) => hash === shown?.route.name));
}

const menu = document.getElementById("menu");

function closeMenu() {
  menu.setAttribute("aria-expanded", "false");
  document.body.classList.remove("menu-open");
}

menu.addEventListener("click", () => {
  const opens = menu.getAttribute("aria-expanded") === "false";
  menu.setAttribute("aria-expanded", String(opens));
  document.body.classList.toggle("menu-open", opens);
});

// -- who looks -------------------------------------------------------------------------------------------------------------------------

function login() {
  live.stop();
  shown?.aborter.abort();
  shown = null;
  document.body.classList.add("outside");
  if (!me.canLogIn) {
    mount.replaceChildren(
      h(
        "div",
        { class: "card login" },
        h("h1", { tabindex: "-1" }, "You are not logged in"),
        h("p", { class: "lead" }, "Log in to the application that this page belongs to, then read it anew."),
      ),
    );
    return;
  }
  const token = h("input", { id: "token", name: "token", type: "password", autocomplete: "current-password", required: true });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const enter = async (event) => {
    event.preventDefault();
    problem.hidden = true;
    try {
      await post("login", { token: token.value });
      await begin();
    } catch (error) {
      problem.textContent = REFUSED[error.status] ?? error.message;
      problem.hidden = false;
      token.select();
    }
  };
  mount.replaceChildren(
    h(
      "form",
      { class: "card login", on: { submit: enter } },
      h("h1", { tabindex: "-1" }, "Log in"),
      h("p", { class: "lead" }, "A token lets you look; an operator's token lets you act."),
      h("div", { class: "field" }, h("label", { for: "token" }, "Token"), token),
      problem,
      h("div", { class: "buttons" }, h("button", { class: "primary", type: "submit" }, "Log in")),
    ),
  );
  token.focus();
}

async function logout() {
  await post("logout").catch((error) => say(error.message));
  await begin();
}

async function begin() {
  try {
    Object.assign(me, await get(path("me")));
  } catch (error) {
    if (error.status === 401) return login();
    mount.replaceChildren(h("div", null, broken(error.message, begin)));
    return setTimeout(() => me.role === null && begin(), 3_000);
  }
  if (me.title) document.getElementById("title").textContent = me.title;
  if (me.authRequired && !me.role) return login();
  document.body.classList.remove("outside");
  show({ focus: false });
  return live.start();
}

// -- keys ------------------------------------------------------------------------------------------------------------------------------

const keys = shortcuts({
  pages: PAGES,
  go: (hash) => (location.hash = `#/${hash}`),
  refresh,
  help,
  act: { n: { words: "Send a job", may: () => shown !== null && me.role === "operator", run: () => sendJob(context(shown.route)) } },
});

function help() {
  tell("Keyboard", ...keys.describe());
}

window.addEventListener("hashchange", () => document.body.classList.contains("outside") || show());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its hash would be taken for a page
  document.getElementById("main").focus();
});
setInterval(countOn, COUNT_ON_MS);
begin();
