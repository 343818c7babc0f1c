// The way to the HTTP API. Every address is relative to the page's own, so that the page works below any mount.

import { learnTime } from "./format.js";

const TIMEOUT_MS = 20_000;

/** What the API has refused: its status, the words for people, and the fields at fault. Status 0: no answer came. */
export class ApiError extends Error {
  constructor(status, message, fields = []) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.fields = fields;
  }
}

/** Return an address below the page's own; `query` leaves out what is empty. */
export function address(path, query) {
  const url = new URL(path, new URL(".", document.baseURI));
  for (const [name, value] of Object.entries(query ?? {}))
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  return url;
}

/** Return a path of the API; each part is quoted. */
export const path = (...parts) => `api/v1/${parts.map(encodeURIComponent).join("/")}`;

/** Return the value of JSON in which each number stays as it was written, where the browser can do that: 2^53 + 1, 1.0. */
export function exact(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source && JSON.rawJSON && String(value) !== context.source ? JSON.rawJSON(context.source) : value,
  );
}

async function call(method, where, { query, body, signal, parse = JSON.parse } = {}) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const options = {
    method,
    credentials: "same-origin",
    cache: "no-store",
    headers: { Accept: "application/json" },
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  };
  if (method !== "GET") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  const answer = await fetch(address(where, query), options).catch((error) => {
    if (signal?.aborted) throw error;
    throw new ApiError(0, error.name === "TimeoutError" ? "The server did not answer in time." : "The server cannot be reached.");
  });
  learnTime(answer.headers.get("date"));
  const told = read(await answer.text().catch(() => ""), parse);
  if (answer.ok) return told;
  const error = told?.error ?? {};
  throw new ApiError(answer.status, error.message ?? `The server answered ${answer.status}.`, error.fields ?? []);
}

function read(text, parse) {
  try {
    return parse(text);
  } catch {
    return null; // a proxy's page, or nothing
  }
}

export const get = (where, query, signal) => call("GET", where, { query, signal });

/** Return what `get` returns, its numbers as they were written. */
export const getExact = (where) => call("GET", where, { parse: exact });

/** Return what is hidden, its numbers as they were written. That it was asked for is kept in the audit log. */
export const reveal = (where) => call("GET", where, { query: { reveal: "true" }, parse: exact });
export const post = (where, body) => call("POST", where, { body });
export const put = (where, body) => call("PUT", where, { body });
export const remove = (where) => call("DELETE", where);

/** Return what `get` returns, or `other` where this part alone cannot be had: a page shows the rest. */
export async function getOr(other, where, query, signal) {
  try {
    return await get(where, query, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status !== 401 && error.status !== 0) return other;
    throw error;
  }
}
