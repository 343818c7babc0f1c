/**
 * The types of the client of angelrt's HTTP API.
 *
 * A test holds them against the OpenAPI document of a running app: every interface has the fields of the component of its name, every
 * method asks for the path above it and returns what the document says, and no documented path is without a method.
 *
 * Times are ISO 8601 in UTC, durations have their unit in their name, `Ms` or `S`; options of a send are seconds.
 */

export type Status = "pending" | "processing" | "completed" | "failed" | "cancelled";
export type JobState = "leased" | "ready" | "lane" | "delayed" | "failed" | "completed" | "cancelled";

// -- what is answered --------------------------------------------------------------------------------------------------------------

export interface ErrorInfo {
  type: string;
  message: string;
  traceback: string;
}

/** One earlier run that ended without an outcome. */
export interface Attempt {
  endedAs: string;
  startedAt: string;
  endedAt: string;
  worker: string;
}

/** How far a run says that it is, `done` from 0 to 1. */
export interface Progress {
  done: number | null;
  message: string;
  log: string[];
}

/** A job. `payload` is null and `payloadHidden` true unless an operator has asked for it. */
export interface ShownJob {
  id: string;
  type: string;
  payload: Record<string, unknown> | null;
  priority: number;
  attempts: number;
  status: Status;
  createdAt: string;
  processedAt: string | null;
  completedAt: string | null;
  error: ErrorInfo | null;
  state: string;
  queue: string | null;
  dueAt: string | null;
  deliveries: number;
  worker: string | null;
  progress: Progress | null;
  timeline: Attempt[];
  payloadHidden: boolean;
}

/** A page of jobs; it may be short, or empty, before the end, where `cursor` is null. */
export interface Jobs {
  jobs: ShownJob[];
  cursor: string | null;
}

/** The job that is there now; `isNew` is false where it was there before. */
export interface Sent {
  id: string;
  isNew: boolean;
}

/** What came of a job. `result` is null and `resultHidden` true unless an operator has asked for it. */
export interface Outcome {
  status: Status;
  result: unknown;
  resultHidden: boolean;
  error: ErrorInfo | null;
}

/** How a job stands that has not ended. */
export interface Waiting {
  status: Status;
}

export interface Reason {
  kind: string;
  text: string;
  data: Record<string, unknown>;
}

/** What holds a job, the first reason first, and when that is expected to pass. */
export interface Explanation {
  id: string;
  actor: string;
  queue: string | null;
  status: Status;
  reasons: Reason[];
  expectedAt: string | null;
}

/** Whether the job was cancelled, or told to stop; false where it had ended before. */
export interface Cancelled {
  cancelled: boolean;
}

/** A job that ended as failed. */
export interface ShownLetter {
  id: string;
  actor: string;
  queue: string;
  error: ErrorInfo;
  attempts: number;
  failedAt: string;
  createdAt: string;
  payload: Record<string, unknown> | null;
  payloadHidden: boolean;
}

/** A page of dead letters, the newest first; `total` counts all there are. */
export interface Failed {
  letters: ShownLetter[];
  cursor: string | null;
  total: number;
}

export interface Replays {
  replayed: number;
  refused: number;
  lastDueAt: string | null;
}

export interface Purged {
  purged: number;
}

/** What happened to the jobs of one actor in one queue. */
export interface Figures {
  queue: string;
  actor: string;
  sent: number;
  completed: number;
  failed: number;
  cancelled: number;
  retried: number;
  snoozed: number;
  released: number;
  lost: number;
  expired: number;
  poisoned: number;
  pickupP50Ms: number | null;
  pickupP99Ms: number | null;
  runP50Ms: number | null;
  runP99Ms: number | null;
}

export interface QueueDepth {
  queue: string;
  ready: number;
  delayed: number;
  leased: number;
  lanes: number;
  oldestReadyMs: number | null;
}

export interface ShownQueue extends QueueDepth {
  isPaused: boolean;
  isDraining: boolean;
}

export interface Queues {
  queues: ShownQueue[];
}

/** The figures of the last day. */
export interface Total {
  hours: number;
  total: Figures;
  actors: Figures[];
  queues: QueueDepth[];
  completionRate: number | null;
  pickupP50Ms: number | null;
  pickupP99Ms: number | null;
}

export interface Backlog {
  ready: number;
  delayed: number;
  leased: number;
  lanes: number;
  oldestReadyMs: number | null;
}

export interface Workers {
  total: number;
  live: number;
}

/** How the system does: `counts` are jobs by state, `pauses` how many things are paused or drained. */
export interface Overview {
  at: string;
  stats: Total;
  counts: Record<string, number>;
  completionRate: number | null;
  pickupP50Ms: number | null;
  pickupP99Ms: number | null;
  backlog: Backlog;
  workers: Workers;
  pauses: number;
}

export interface Minute {
  at: string;
  sent: number;
  completed: number;
  failed: number;
  cancelled: number;
  retried: number;
  lost: number;
  pickupP50Ms: number | null;
  pickupP99Ms: number | null;
  runP50Ms: number | null;
  runP99Ms: number | null;
}

/** The figures of each of the last minutes, the oldest first. */
export interface Series {
  minutes: Minute[];
}

/** An actor; one that is not declared in the process that answers has no kind and no schema. */
export interface ShownActor {
  name: string;
  queue: string;
  kind: string | null;
  description: string | null;
  schema: Record<string, unknown> | null;
  isPaused: boolean;
  isDraining: boolean;
  figures: Figures | null;
}

export interface Actors {
  actors: ShownActor[];
}

/** A worker; `averageProcessingTime` is in milliseconds. */
export interface WorkerInfo {
  id: string;
  type: string;
  status: string;
  lastHeartbeat: string;
  jobsProcessed: number;
  averageProcessingTime: number;
  queues: string[];
  actors: string[];
  concurrency: number;
  running: number;
  host: string;
  pid: number;
  blockedBy: string | null;
  blockedS: number | null;
  longestBlockBy: string | null;
  longestBlockS: number | null;
}

export interface Fleet {
  workers: WorkerInfo[];
}

export interface ShownSchedule {
  name: string;
  actor: string;
  queue: string;
  payload: Record<string, unknown> | null;
  cron: string | null;
  every: number | null;
  zone: string;
  misfire: string;
  nextAt: string | null;
  lastAt: string | null;
  nextJob: string | null;
  pausedBy: string | null;
  pausedAt: string | null;
  payloadHidden: boolean;
}

export interface ShownSchedules {
  schedules: ShownSchedule[];
}

export interface Rule {
  name: string;
  limit: string;
  declared: string | null;
}

export interface Pause {
  kind: string;
  name: string;
  how: string;
  by: string;
  at: string;
  reason: string;
}

/** What is taken at one gate. `value` is "" for a limit that goes by no argument, and null where it is hidden or nobody tells it. */
export interface ShownGate {
  value: string | null;
  taken: number;
  valueHidden: boolean;
}

/** How much of a limit is in use: `gates` are the fullest, up to five of the `inUse` that were found; with `hasMore`, not all were. */
export interface ShownUse {
  rule: string;
  most: number;
  gates: ShownGate[];
  inUse: number;
  hasMore: boolean;
}

export interface Limits {
  rules: Rule[];
  usage: ShownUse[];
  pauses: Pause[];
}

/** The names of what is paused, drained or going on now. */
export interface Changed {
  changed: string[];
}

export interface Done {
  done: boolean;
}

export interface AuditEntry {
  at: string;
  who: string;
  role: string;
  action: string;
  what: string;
}

export interface Audit {
  entries: AuditEntry[];
}

export interface AlertInfo {
  name: string;
  description: string;
  state: "ok" | "firing" | "unknown";
  since: string | null;
  value: number | null;
  threshold: number;
  unit: string;
}

export interface AlertChange {
  name: string;
  at: string;
  state: "firing" | "resolved";
  value: number | null;
}

export interface Alerts {
  alerts: AlertInfo[];
  history: AlertChange[];
}

export interface Me {
  role: "reader" | "operator" | null;
  authRequired: boolean;
  canLogIn: boolean;
  title: string;
}

export interface Alive {
  status: string;
}

/** One call of a sender or a worker: `verb` is what it did, `jobs` to how many, `ids` are up to eight of them. */
export interface Event {
  id: string;
  at: string;
  verb: string;
  worker: string;
  jobs: number;
  ids: string[];
}

/** What is wrong with one field of a request. */
export interface Fault {
  field: string;
  message: string;
}

export interface ErrorBody {
  type: string;
  message: string;
  fields: Fault[];
}

export interface ErrorAnswer {
  error: ErrorBody;
}

// -- what is asked -----------------------------------------------------------------------------------------------------------------

/** What holds for one call. */
export interface CallOptions {
  /** Ends the call; it throws what the signal says. */
  signal?: AbortSignal;
  /** How long to wait for the answer, instead of what the client was told. */
  timeoutMs?: number;
}

export interface RevealQuery {
  /** Show what is hidden: for operators, and it is written into the audit. */
  reveal?: boolean;
}

export interface ResultQuery extends RevealQuery {
  /** Seconds to wait for the end, at most 30. */
  wait?: number;
}

export interface SeriesQuery {
  minutes?: number;
  queue?: string;
  actor?: string;
}

export interface JobsQuery {
  state?: JobState;
  queue?: string;
  actor?: string;
  text?: string;
  since?: string | Date;
  until?: string | Date;
  cursor?: string;
  limit?: number;
}

export interface FailedQuery {
  actor?: string;
  queue?: string;
  error?: string;
  text?: string;
  cursor?: string;
  limit?: number;
}

export interface AuditQuery {
  limit?: number;
}

export interface EventsQuery {
  /** The id of the event after which to go on, "0" for the oldest that is kept; without it, what comes from now on. */
  after?: string;
}

export interface SendOptionsBody {
  id?: string | null;
  delay?: number | null;
  at?: string | null;
  priority?: number | null;
  queue?: string | null;
  timeout?: number | null;
  attempts?: number | null;
  expires?: number | null;
  cost?: number | null;
  tenant?: string | null;
}

export interface RetryBody {
  arguments?: Record<string, unknown> | null;
  without?: string[];
}

export interface FailedFilter {
  actor?: string | null;
  queue?: string | null;
  error?: string | null;
  text?: string | null;
  since?: string | null;
  until?: string | null;
}

export interface ReplayBody extends FailedFilter {
  perSecond?: number | null;
}

export interface PurgeBody extends FailedFilter {
  id?: string | null;
  everything?: boolean;
}

export interface WhyBody {
  reason?: string;
}

export interface KeyBody extends WhyBody {
  key: string;
}

export interface LimitBody {
  rule: string;
  limit: number | string | null;
  burst?: number | null;
}

export interface LoginBody {
  token: string;
}

/** What a pause, a drain or a resume is about. */
export type Held = { queue: string } | { actor: string } | { key: string };

// -- errors ------------------------------------------------------------------------------------------------------------------------

/** The root of every error of this client. */
export class AngelError extends Error {}

/** The API refused, or could not answer: `type` is the name of the server's error, `fields` are what is wrong with the request. */
export class ApiError extends AngelError {
  readonly status: number;
  readonly type: string;
  readonly fields: Fault[];
  /** Seconds after which another try makes sense; null where the server does not say. */
  readonly retryAfterS: number | null;
}

/** 400, 413, 415 and 422: the request is wrong; see `fields`. */
export class InvalidRequest extends ApiError {}
/** 401: a token is needed, or this one is not known. */
export class NotAuthenticated extends ApiError {}
/** 403: this token may not do that. */
export class NotAllowed extends ApiError {}
/** 404: there is no such job, schedule or path. */
export class NotFound extends ApiError {}
/** 409: it is drained, or a job with the same unique key is there. */
export class Conflict extends ApiError {}
/** 503: the server, or its Redis, does not answer now. */
export class Unavailable extends ApiError {}

/** No whole answer came. A send may have been done: repeat it with its `id`, and nothing is sent twice. */
export class ConnectionLost extends AngelError {}

/** The job ended as failed; `error` is the worker's. */
export class JobFailed extends AngelError {
  readonly id: string;
  readonly error: ErrorInfo;
}

/** The job ended as cancelled. */
export class JobCancelled extends AngelError {
  readonly id: string;
}

/** The job has not ended in time, and goes on. */
export class WaitTimeout extends AngelError {
  readonly id: string;
  readonly status: Status;
}

// -- the client --------------------------------------------------------------------------------------------------------------------

export interface ClientOptions {
  /** The token of a reader or an operator, or what returns it for each request. */
  token?: string | (() => string | Promise<string>);
  /** How long to wait for an answer, 30,000 unless given. */
  timeoutMs?: number;
  /** Further headers of every request. */
  headers?: Record<string, string>;
  /** What is called instead of the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export interface WaitOptions {
  signal?: AbortSignal;
  /** How long to wait for the end of the job; without it, for ever. */
  timeoutMs?: number;
}

export interface FollowOptions extends EventsQuery {
  signal?: AbortSignal;
  /** Told when the stream begins to flow ("open"), and when it broke and is asked for again ("lost"). */
  onState?: (state: "open" | "lost") => void;
}

/** The arguments of each actor by its name, as `{ send_mail: { to: string } }`; without them, any. */
export type ActorArguments = Record<string, any>;

/** A client of one app. It holds no connection; every method may be called at any time. */
export class Client<A extends object = ActorArguments> {
  /** `url` is where the app is mounted: "https://example.org/queues", or "/queues" in a page of the same site. */
  constructor(url: string, options?: ClientOptions);

  // -- jobs

  /** POST /api/v1/jobs */
  send<N extends keyof A & string>(actor: N, args: A[N], options?: SendOptionsBody, call?: CallOptions): Promise<Sent>;
  /** GET /api/v1/jobs/{name} */
  job(id: string, query?: RevealQuery, call?: CallOptions): Promise<ShownJob>;
  /** The status of a job. */
  status(id: string, call?: CallOptions): Promise<Status>;
  /** GET /api/v1/jobs/{name}/result */
  outcome(id: string, query?: ResultQuery, call?: CallOptions): Promise<Outcome | Waiting>;
  /** Wait for the end of a job, however it ended; the result stays hidden. Throws WaitTimeout. */
  wait(id: string, options?: WaitOptions): Promise<Outcome>;
  /** Wait for the result of a job, which only an operator sees. Throws JobFailed, JobCancelled and WaitTimeout. */
  result<T = unknown>(id: string, options?: WaitOptions): Promise<T>;
  /** GET /api/v1/jobs/{name}/explain */
  explain(id: string, call?: CallOptions): Promise<Explanation>;
  /** POST /api/v1/jobs/{name}/cancel */
  cancel(id: string, call?: CallOptions): Promise<Cancelled>;
  /** POST /api/v1/jobs/{name}/retry */
  retry(id: string, changes?: RetryBody, call?: CallOptions): Promise<ShownJob>;
  /** GET /api/v1/jobs */
  jobsPage(query?: JobsQuery, call?: CallOptions): Promise<Jobs>;
  /** Iterate over all jobs that a query means, page by page. */
  jobs(query?: JobsQuery, call?: CallOptions): AsyncGenerator<ShownJob, void, undefined>;

  // -- dead letters

  /** GET /api/v1/failed */
  failedPage(query?: FailedQuery, call?: CallOptions): Promise<Failed>;
  /** Iterate over all dead letters that a query means, the newest first, page by page. */
  failed(query?: FailedQuery, call?: CallOptions): AsyncGenerator<ShownLetter, void, undefined>;
  /** POST /api/v1/failed/replay */
  replayFailed(filter?: ReplayBody, call?: CallOptions): Promise<Replays>;
  /** POST /api/v1/failed/purge */
  purgeFailed(filter: PurgeBody, call?: CallOptions): Promise<Purged>;

  // -- how the system does

  /** GET /api/v1/overview */
  overview(call?: CallOptions): Promise<Overview>;
  /** GET /api/v1/series */
  series(query?: SeriesQuery, call?: CallOptions): Promise<Series>;
  /** GET /api/v1/queues */
  queues(call?: CallOptions): Promise<Queues>;
  /** GET /api/v1/actors */
  actors(call?: CallOptions): Promise<Actors>;
  /** GET /api/v1/workers */
  workers(call?: CallOptions): Promise<Fleet>;
  /** GET /api/v1/alerts */
  alerts(call?: CallOptions): Promise<Alerts>;
  /** GET /api/v1/audit */
  audit(query?: AuditQuery, call?: CallOptions): Promise<Audit>;
  /** Iterate over what happens, for ever; a stream that breaks is asked for again, and goes on after the last event that came. */
  events(options?: FollowOptions): AsyncGenerator<Event, void, undefined>;

  // -- telling a fleet otherwise

  /** Let nothing of a queue, an actor or a key begin, until `resume`. */
  pause(what: Held, reason?: string, call?: CallOptions): Promise<Changed>;
  /** Refuse new jobs of a queue, an actor or a key, until `resume`. */
  drain(what: Held, reason?: string, call?: CallOptions): Promise<Changed>;
  /** Take a pause or a drain back. */
  resume(what: Held, reason?: string, call?: CallOptions): Promise<Changed>;
  /** GET /api/v1/limits */
  limits(call?: CallOptions): Promise<Limits>;
  /** PUT /api/v1/limits */
  setLimit(rule: string, limit: number | string | null, burst?: number | null, call?: CallOptions): Promise<Limits>;
  /** GET /api/v1/schedules */
  schedules(query?: RevealQuery, call?: CallOptions): Promise<ShownSchedules>;
  /** POST /api/v1/schedules/{name}/pause */
  pauseSchedule(name: string, call?: CallOptions): Promise<ShownSchedule>;
  /** POST /api/v1/schedules/{name}/resume */
  resumeSchedule(name: string, call?: CallOptions): Promise<ShownSchedule>;
  /** DELETE /api/v1/schedules/{name} */
  removeSchedule(name: string, call?: CallOptions): Promise<Done>;

  // -- the app itself

  /** GET /api/v1/me */
  me(call?: CallOptions): Promise<Me>;
  /** POST /login */
  login(token: string, call?: CallOptions): Promise<void>;
  /** POST /logout */
  logout(call?: CallOptions): Promise<void>;
  /** GET /api/v1/openapi.json */
  openapi(call?: CallOptions): Promise<Record<string, unknown>>;
  /** GET /healthz */
  healthz(call?: CallOptions): Promise<Alive>;
  /** GET /readyz */
  readyz(call?: CallOptions): Promise<Alive>;
  /** GET /metrics */
  metrics(call?: CallOptions): Promise<string>;
}
