// News from the server: an event stream, and polling for as long as it is cut.

import { address, path } from "./api.js";

const COALESCE_MS = 1_000;
const POLL_MS = 3_000;
const IDLE_MS = 10_000; // beats, ages and alerts change without an event
const RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

/**
 * Calls `refresh` on events, at most once a second, and tells `onState` "live", "away" (the server lives, its Redis does not answer) or
 * "reconnecting". `refresh` returns whether all was answered. A page that nobody sees asks nothing.
 */
export class Live {
  #refresh;
  #onState;
  #isOn = false;
  #source = null;
  #failures = 0;
  #awayAt = null; // when the server last said that Redis does not answer; an answer to a later question says that it does again
  #timer = 0;
  #reopen = 0;
  #isBusy = false;
  #isStale = false;
  #last = 0;

  constructor(refresh, onState) {
    this.#refresh = refresh;
    this.#onState = onState;
    document.addEventListener("visibilitychange", () => this.#isOn && this.#turn());
  }

  start() {
    this.#isOn = true;
    this.#turn();
  }

  stop() {
    this.#isOn = false;
    this.#close();
  }

  /** Refresh as soon as the last refresh is a second old. */
  soon() {
    if (this.#isBusy) this.#isStale = true;
    else this.#plan(Math.max(0, this.#last + COALESCE_MS - Date.now()));
  }

  #turn() {
    this.#close();
    if (document.hidden) return; // a browser has six connections to a server, and a hidden page would keep one of them
    this.#open();
    this.soon();
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#reopen);
  }

  #open() {
    const source = new EventSource(address(path("events")));
    this.#source = source;
    source.onopen = () => {
      const wasCut = this.#failures > 0;
      this.#failures = 0;
      this.#tell();
      if (wasCut) this.soon();
    };
    source.onmessage = () => this.soon();
    source.addEventListener("unavailable", () => {
      this.#awayAt = performance.now();
      this.#tell();
      this.soon();
    });
    source.onerror = () => {
      this.#failures += 1;
      this.#tell();
      this.soon();
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.#reopen = setTimeout(() => this.#open(), RETRY_MS[Math.min(this.#failures, RETRY_MS.length) - 1]);
    };
  }

  #tell() {
    this.#onState(this.#failures ? "reconnecting" : this.#awayAt === null ? "live" : "away");
  }

  #plan(wait) {
    clearTimeout(this.#timer);
    if (this.#isOn && !document.hidden) this.#timer = setTimeout(() => this.#run(), wait);
  }

  async #run() {
    this.#isBusy = true;
    this.#isStale = false;
    const began = performance.now();
    const isAnswered = await this.#refresh();
    if (isAnswered && this.#awayAt !== null) {
      if (began > this.#awayAt) this.#awayAt = null;
      else this.#isStale = true; // it was asked before that was said: the next answer tells
      this.#tell();
    }
    this.#isBusy = false;
    this.#last = Date.now();
    this.#plan(this.#isStale ? COALESCE_MS : this.#failures || this.#awayAt !== null ? POLL_MS : IDLE_MS);
  }
}
