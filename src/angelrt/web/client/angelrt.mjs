// The client of angelrt's HTTP API, for browsers and for Node 20 or later. It needs nothing else; its types are in angelrt.d.mts.

/** @import * as api from "./angelrt.mjs" */

const TIMEOUT_MS = 30_000;
const POLL_S = 25; // the API waits for 30 s at most, and proxies often for no longer
const PAUSE_MS = 500;
const PAUSE_MAX_MS = 30_000;
const TRIES_MAX = 10;
const SILENT_MS = 40_000; // a stream has a beat every 15 s

// -- errors ------------------------------------------------------------------------------------------------------------------------

export class AngelError extends Error {
  /** @param {string} message @param {ErrorOptions} [options] */
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** @implements {api.ApiError} */
export class ApiError extends AngelError {
  /** @param {number} status @param {api.ErrorBody} body @param {number | null} retryAfterS */
  constructor(status, body, retryAfterS) {
    super(body.message);
    this.status = status;
    this.type = body.type;
    this.fields = body.fields;
    this.retryAfterS = retryAfterS;
  }
}

export class InvalidRequest extends ApiError {}
export class NotAuthenticated extends ApiError {}
export class NotAllowed extends ApiError {}
export class NotFound extends ApiError {}
export class Conflict extends ApiError {}
export class Unavailable extends ApiError {}
export class ConnectionLost extends AngelError {}

/** @implements {api.JobFailed} */
export class JobFailed extends AngelError {
  /** @param {string} id @param {api.ErrorInfo} error */
  constructor(id, error) {
    super(`job ${id} failed: ${error.type}: ${error.message}`);
    this.id = id;
    this.error = error;
  }
}

/** @implements {api.JobCancelled} */
export class JobCancelled extends AngelError {
  /** @param {string} id */
  constructor(id) {
    super(`job ${id} was cancelled`);
    this.id = id;
  }
}

/** @implements {api.WaitTimeout} */
export class WaitTimeout extends AngelError {
  /** @param {string} id @param {api.Status} status */
  constructor(id, status) {
    super(`job ${id} has not ended in time and goes on; it is ${status}`);
    this.id = id;
    this.status = status;
  }
}

/** @type {Record<number, typeof ApiError>} */
const ERRORS = {
  400: InvalidRequest,
  401: NotAuthenticated,
  403: NotAllowed,
  404: NotFound,
  409: Conflict,
  413: InvalidRequest,
  415: InvalidRequest,
  422: InvalidRequest,
  502: Unavailable,
  503: Unavailable,
  504: Unavailable,
};

// -- the client --------------------------------------------------------------------------------------------------------------------

/**
 * @template {object} [A=api.ActorArguments]
 * @implements {api.Client<A>}
 */
export class Client {
  #base;
  #options;

  /** @param {string} url @param {api.ClientOptions} [options] */
  constructor(url, options = {}) {
    this.#base = url.replace(/\/+$/, "");
    this.#options = options;
  }

  // -- jobs

  /**
   * @template {keyof A & string} N
   * @param {N} actor @param {A[N]} args @param {api.SendOptionsBody} [options] @param {api.CallOptions} [call]
   * @returns {Promise<api.Sent>}
   */
  send(actor, args, options, call) {
    return this.#json("POST", "/api/v1/jobs", { call, body: { actor, arguments: args, ...(options && { options }) } });
  }

  /** @param {string} id @param {api.RevealQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.ShownJob>} */
  job(id, query, call) {
    return this.#json("GET", "/api/v1/jobs/{name}", { name: id, query, call });
  }

  /** @param {string} id @param {api.CallOptions} [call] @returns {Promise<api.Status>} */
  async status(id, call) {
    return (await this.job(id, {}, call)).status;
  }

  /** @param {string} id @param {api.ResultQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.Outcome | api.Waiting>} */
  outcome(id, query, call) {
    const timeoutMs = (call?.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS) + (query?.wait ?? 0) * 1000;
    return this.#json("GET", "/api/v1/jobs/{name}/result", { name: id, query, call: { ...call, timeoutMs } });
  }

  /** @param {string} id @param {api.WaitOptions} [options] @returns {Promise<api.Outcome>} */
  wait(id, options) {
    return this.#wait(id, false, options);
  }

  /**
   * @template [T=unknown]
   * @param {string} id @param {api.WaitOptions} [options] @returns {Promise<T>}
   */
  async result(id, options) {
    const outcome = await this.#wait(id, true, options);
    if (outcome.status === "cancelled") throw new JobCancelled(id);
    if (outcome.status === "failed") {
      throw new JobFailed(id, outcome.error ?? { type: "unknown", message: "its error is not kept", traceback: "" });
    }
    return /** @type {T} */ (outcome.result);
  }

  /** @param {string} id @param {api.CallOptions} [call] @returns {Promise<api.Explanation>} */
  explain(id, call) {
    return this.#json("GET", "/api/v1/jobs/{name}/explain", { name: id, call });
  }

  /** @param {string} id @param {api.CallOptions} [call] @returns {Promise<api.Cancelled>} */
  cancel(id, call) {
    return this.#json("POST", "/api/v1/jobs/{name}/cancel", { name: id, call });
  }

  /** @param {string} id @param {api.RetryBody} [changes] @param {api.CallOptions} [call] @returns {Promise<api.ShownJob>} */
  retry(id, changes, call) {
    return this.#json("POST", "/api/v1/jobs/{name}/retry", { name: id, body: changes, call });
  }

  /** @param {api.JobsQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.Jobs>} */
  jobsPage(query, call) {
    return this.#json("GET", "/api/v1/jobs", { query, call });
  }

  /** @param {api.JobsQuery} [query] @param {api.CallOptions} [call] @returns {AsyncGenerator<api.ShownJob, void, undefined>} */
  async *jobs(query, call) {
    for (let cursor = query?.cursor; ; ) {
      const page = await this.jobsPage({ ...query, cursor }, call);
      yield* page.jobs;
      if (page.cursor === null) return;
      cursor = page.cursor;
    }
  }

  // -- dead letters

  /** @param {api.FailedQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.Failed>} */
  failedPage(query, call) {
    return this.#json("GET", "/api/v1/failed", { query, call });
  }

  /** @param {api.FailedQuery} [query] @param {api.CallOptions} [call] @returns {AsyncGenerator<api.ShownLetter, void, undefined>} */
  async *failed(query, call) {
    for (let cursor = query?.cursor; ; ) {
      const page = await this.failedPage({ ...query, cursor }, call);
      yield* page.letters;
      if (page.cursor === null) return;
      cursor = page.cursor;
    }
  }

  /** @param {api.ReplayBody} [filter] @param {api.CallOptions} [call] @returns {Promise<api.Replays>} */
  replayFailed(filter, call) {
    return this.#json("POST", "/api/v1/failed/replay", { body: filter, call });
  }

  /** @param {api.PurgeBody} filter @param {api.CallOptions} [call] @returns {Promise<api.Purged>} */
  purgeFailed(filter, call) {
    return this.#json("POST", "/api/v1/failed/purge", { body: filter, call });
  }

  // -- how the system does

  /** @param {api.CallOptions} [call] @returns {Promise<api.Overview>} */
  overview(call) {
    return this.#json("GET", "/api/v1/overview", { call });
  }

  /** @param {api.SeriesQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.Series>} */
  series(query, call) {
    return this.#json("GET", "/api/v1/series", { query, call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Queues>} */
  queues(call) {
    return this.#json("GET", "/api/v1/queues", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Actors>} */
  actors(call) {
    return this.#json("GET", "/api/v1/actors", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Fleet>} */
  workers(call) {
    return this.#json("GET", "/api/v1/workers", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Alerts>} */
  alerts(call) {
    return this.#json("GET", "/api/v1/alerts", { call });
  }

  /** @param {api.AuditQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.Audit>} */
  audit(query, call) {
    return this.#json("GET", "/api/v1/audit", { query, call });
  }

  /** @param {api.FollowOptions} [options] @returns {AsyncGenerator<api.Event, void, undefined>} */
  async *events({ after, signal, onState } = {}) {
    let last = after;
    for (let tries = 0; ; ) {
      try {
        for await (const message of this.#stream(last, signal)) {
          if (message === null) {
            onState?.("open");
            continue;
          }
          tries = 0;
          last = message.id;
          yield message;
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (!passes(error)) throw error;
      }
      onState?.("lost");
      await pause(tries++, signal);
    }
  }

  // -- telling a fleet otherwise

  /** @param {api.Held} what @param {string} [reason] @param {api.CallOptions} [call] @returns {Promise<api.Changed>} */
  pause(what, reason, call) {
    if ("queue" in what) return this.#json("POST", "/api/v1/queues/{name}/pause", { name: what.queue, body: why(reason), call });
    if ("actor" in what) return this.#json("POST", "/api/v1/actors/{name}/pause", { name: what.actor, body: why(reason), call });
    return this.#json("POST", "/api/v1/keys/pause", { body: { ...why(reason), key: what.key }, call });
  }

  /** @param {api.Held} what @param {string} [reason] @param {api.CallOptions} [call] @returns {Promise<api.Changed>} */
  drain(what, reason, call) {
    if ("queue" in what) return this.#json("POST", "/api/v1/queues/{name}/drain", { name: what.queue, body: why(reason), call });
    if ("actor" in what) return this.#json("POST", "/api/v1/actors/{name}/drain", { name: what.actor, body: why(reason), call });
    return this.#json("POST", "/api/v1/keys/drain", { body: { ...why(reason), key: what.key }, call });
  }

  /** @param {api.Held} what @param {string} [reason] @param {api.CallOptions} [call] @returns {Promise<api.Changed>} */
  resume(what, reason, call) {
    if ("queue" in what) return this.#json("POST", "/api/v1/queues/{name}/resume", { name: what.queue, body: why(reason), call });
    if ("actor" in what) return this.#json("POST", "/api/v1/actors/{name}/resume", { name: what.actor, body: why(reason), call });
    return this.#json("POST", "/api/v1/keys/resume", { body: { ...why(reason), key: what.key }, call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Limits>} */
  limits(call) {
    return this.#json("GET", "/api/v1/limits", { call });
  }

  /**
   * @param {string} rule @param {number | string | null} limit @param {number | null} [burst] @param {api.CallOptions} [call]
   * @returns {Promise<api.Limits>}
   */
  setLimit(rule, limit, burst, call) {
    /** @type {api.LimitBody} */
    const body = { rule, limit, burst };
    return this.#json("PUT", "/api/v1/limits", { body, call });
  }

  /** @param {api.RevealQuery} [query] @param {api.CallOptions} [call] @returns {Promise<api.ShownSchedules>} */
  schedules(query, call) {
    return this.#json("GET", "/api/v1/schedules", { query, call });
  }

  /** @param {string} name @param {api.CallOptions} [call] @returns {Promise<api.ShownSchedule>} */
  pauseSchedule(name, call) {
    return this.#json("POST", "/api/v1/schedules/{name}/pause", { name, call });
  }

  /** @param {string} name @param {api.CallOptions} [call] @returns {Promise<api.ShownSchedule>} */
  resumeSchedule(name, call) {
    return this.#json("POST", "/api/v1/schedules/{name}/resume", { name, call });
  }

  /** @param {string} name @param {api.CallOptions} [call] @returns {Promise<api.Done>} */
  removeSchedule(name, call) {
    return this.#json("DELETE", "/api/v1/schedules/{name}", { name, call });
  }

  // -- the app itself

  /** @param {api.CallOptions} [call] @returns {Promise<api.Me>} */
  me(call) {
    return this.#json("GET", "/api/v1/me", { call });
  }

  /** @param {string} token @param {api.CallOptions} [call] @returns {Promise<void>} */
  async login(token, call) {
    /** @type {api.LoginBody} */
    const body = { token };
    await this.#text("POST", "/login", { body, call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<void>} */
  async logout(call) {
    await this.#text("POST", "/logout", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<Record<string, unknown>>} */
  openapi(call) {
    return this.#json("GET", "/api/v1/openapi.json", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Alive>} */
  healthz(call) {
    return this.#json("GET", "/healthz", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<api.Alive>} */
  readyz(call) {
    return this.#json("GET", "/readyz", { call });
  }

  /** @param {api.CallOptions} [call] @returns {Promise<string>} */
  metrics(call) {
    return this.#text("GET", "/metrics", { call });
  }

  // -- how it asks

  /**
   * Ask again and again until a job has ended, through moments in which nobody answers.
   *
   * @param {string} id @param {boolean} reveal @param {api.WaitOptions} [options] @returns {Promise<api.Outcome>}
   */
  async #wait(id, reveal, { signal, timeoutMs = Infinity } = {}) {
    const until = Date.now() + timeoutMs;
    /** @type {api.Status} */
    let status = "pending";
    for (let tries = 0; ; ) {
      const left = Math.max(until - Date.now(), 0);
      try {
        const found = await this.outcome(id, { reveal, wait: Math.min(POLL_S, left / 1000) }, { signal });
        if ("resultHidden" in found) return found;
        status = found.status;
        tries = 0;
      } catch (error) {
        if (!passes(error) || tries >= TRIES_MAX || left === 0) throw error;
        await pause(tries++, signal, until - Date.now());
      }
      if (Date.now() >= until) throw new WaitTimeout(id, status);
    }
  }

  /**
   * Yield the events of one connection, and null when it begins.
   *
   * @param {string | undefined} after @param {AbortSignal | undefined} signal
   * @returns {AsyncGenerator<api.Event | null, void, undefined>}
   */
  async *#stream(after, signal) {
    const silence = new AbortController();
    const watch = () => setTimeout(() => silence.abort(new ConnectionLost("the stream of events is silent")), SILENT_MS);
    let timer = watch();
    try {
      const ends = signal ? AbortSignal.any([signal, silence.signal]) : silence.signal;
      const headers = { Accept: "text/event-stream", ...(after !== undefined && { "Last-Event-ID": after }) };
      const response = await this.#fetch("GET", "/api/v1/events", { signal: ends, headers });
      yield null;
      for await (const data of messages(response, () => (clearTimeout(timer), (timer = watch())))) {
        yield JSON.parse(data);
      }
    } catch (error) {
      throw lost(error);
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  /**
   * @param {string} method @param {string} path
   * @param {{ name?: string, query?: object, body?: object, call?: api.CallOptions }} request
   * @returns {Promise<any>}
   */
  async #json(method, path, request) {
    const text = await this.#text(method, path, request);
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new ConnectionLost(`${method} ${path} was not answered with JSON: is the app mounted at ${this.#base}?`, { cause: error });
    }
  }

  /**
   * @param {string} method @param {string} path
   * @param {{ name?: string, query?: object, body?: object, call?: api.CallOptions }} request
   * @returns {Promise<string>}
   */
  async #text(method, path, { name, query, body, call }) {
    const limit = AbortSignal.timeout(call?.timeoutMs ?? this.#options.timeoutMs ?? TIMEOUT_MS);
    const signal = call?.signal ? AbortSignal.any([call.signal, limit]) : limit;
    const place = path.replace("{name}", () => encodeURIComponent(name ?? ""));
    const change = method === "GET" ? {} : { body: JSON.stringify(body ?? {}), headers: { "Content-Type": "application/json" } };
    try {
      const response = await this.#fetch(method, place + written(query), { signal, ...change });
      return await response.text();
    } catch (error) {
      throw lost(error, signal, call?.signal);
    }
  }

  /**
   * Return an answer below 400; throw what any other says.
   *
   * @param {string} method @param {string} place
   * @param {{ signal: AbortSignal, body?: string, headers?: Record<string, string> }} request
   * @returns {Promise<Response>}
   */
  async #fetch(method, place, { signal, body, headers }) {
    const { token, fetch = globalThis.fetch } = this.#options;
    const known = typeof token === "function" ? await token() : token;
    const named = { ...this.#options.headers, ...headers, ...(known && { Authorization: `Bearer ${known}` }) };
    const response = await fetch(this.#base + place, { method, signal, body, headers: named, redirect: "error" });
    if (response.ok) return response;
    throw await refusal(response);
  }
}

// -- parts -------------------------------------------------------------------------------------------------------------------------

/** @param {string | undefined} reason @returns {api.WhyBody} */
function why(reason) {
  return reason === undefined ? {} : { reason };
}

/** @param {object | undefined} query @returns {string} */
function written(query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null) found.set(name, value instanceof Date ? value.toISOString() : String(value));
  }
  const text = found.toString();
  return text && `?${text}`;
}

/** @param {Response} response @returns {Promise<ApiError>} */
async function refusal(response) {
  const text = await response.text();
  const after = Number(response.headers.get("Retry-After") ?? NaN);
  let body;
  try {
    body = JSON.parse(text).error;
  } catch {
    body = undefined; // a proxy's own page
  }
  const { type = "Unknown", message = `${response.status} ${response.statusText}`, fields = [] } = body ?? {};
  const kind = ERRORS[response.status] ?? ApiError;
  return new kind(response.status, { type, message, fields }, Number.isFinite(after) ? after : null);
}

/**
 * Return what to throw for an error of a request: the caller's own reason, an error of this client, or ConnectionLost.
 *
 * @param {unknown} error @param {AbortSignal} [signal] @param {AbortSignal} [own] @returns {unknown}
 */
function lost(error, signal, own) {
  if (error instanceof AngelError) return error;
  if (own?.aborted) return own.reason;
  if (signal?.aborted) return new ConnectionLost("no answer in time", { cause: error });
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : "";
  return new ConnectionLost(`the connection failed: ${cause || error}`, { cause: error });
}

/** Whether another try may succeed. @param {unknown} error @returns {boolean} */
function passes(error) {
  return error instanceof ConnectionLost || error instanceof Unavailable;
}

/**
 * Wait before the next try: longer each time, and by chance, so that clients do not come back all at once.
 *
 * @param {number} tries @param {AbortSignal} [signal] @param {number} [atMostMs] @returns {Promise<void>}
 */
function pause(tries, signal, atMostMs = Infinity) {
  const ms = Math.min(PAUSE_MAX_MS, PAUSE_MS * 2 ** tries) * (0.5 + Math.random() / 2);
  return new Promise((done, refuse) => {
    if (signal?.aborted) return refuse(signal.reason);
    const leave = () => (clearTimeout(timer), refuse(signal?.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", leave), done()), Math.max(Math.min(ms, atMostMs), 0));
    signal?.addEventListener("abort", leave, { once: true });
  });
}

/**
 * Yield the data of each message of a stream of server-sent events; `heard` is called whenever something comes, a beat too.
 *
 * @param {Response} response @param {() => void} heard @returns {AsyncGenerator<string, void, undefined>}
 */
async function* messages(response, heard) {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const parts = (text + value).split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const lines = part.split("\n");
        const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length && !lines.some((line) => line.startsWith("event:"))) yield data.join("\n");
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
