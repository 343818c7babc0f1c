// What test_client.py lets the client do against a live app: `node client_scenarios.mjs CLIENT URL TOKEN READER NAME`.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import process from "node:process";

const [place, url, token, reader, name] = process.argv.slice(2);
const api = await import(place);
const client = new api.Client(`${url}/`, { token });

const scenarios = {
  async jobs() {
    const sent = await client.send("double", { number: 21 }, { id: "a/b c?%2F#ü", priority: 7 });
    assert.deepEqual(sent, { id: "a/b c?%2F#ü", isNew: true });
    assert.equal((await client.send("double", { number: 21 }, { id: sent.id })).isNew, false);
    assert.equal(await client.result(sent.id, { timeoutMs: 20_000 }), 42);
    assert.equal(await client.status(sent.id), "completed");
    const hidden = await client.job(sent.id);
    assert.deepEqual([hidden.type, hidden.payload, hidden.payloadHidden, hidden.priority], ["double", null, true, 7]);
    assert.deepEqual((await client.job(sent.id, { reveal: true })).payload, { number: 21 });
    assert.deepEqual([(await client.wait(sent.id)).result, (await client.wait(sent.id)).resultHidden], [null, true]);
    assert.match((await client.explain(sent.id)).reasons[0].text, /^it completed at /);
    assert.deepEqual(await client.cancel(sent.id), { cancelled: false });
  },

  async failures() {
    const { id } = await client.send("breaks", {});
    const error = await client.result(id, { timeoutMs: 20_000 }).then(assert.fail, (error) => error);
    assert.ok(error instanceof api.JobFailed && error instanceof api.AngelError);
    assert.deepEqual([error.name, error.id, error.error.type, error.error.message], ["JobFailed", id, "LookupError", "no such customer"]);
    assert.equal((await client.wait(id)).status, "failed");
    const letters = await all(client.failed());
    assert.deepEqual(letters.map((letter) => letter.id), [id]);
    assert.equal((await client.failedPage({ actor: "nobody" })).letters.length, 0);
    assert.equal((await client.retry(id)).id, id);
    assert.equal((await client.wait(id, { timeoutMs: 20_000 })).status, "failed");
    assert.equal((await client.replayFailed({ actor: "breaks" })).replayed, 1);
    assert.equal((await client.wait(id, { timeoutMs: 20_000 })).status, "failed");
    assert.deepEqual(await client.purgeFailed({ id }), { purged: 1 });
    await assert.rejects(client.job(id), api.NotFound);
  },

  async endings() {
    const { id } = await client.send("double", { number: 1 }, { delay: 600 });
    const late = await client.result(id, { timeoutMs: 50 }).then(assert.fail, (error) => error);
    assert.ok(late instanceof api.WaitTimeout);
    assert.deepEqual([late.id, late.status], [id, "pending"]);
    const waiting = client.result(id);
    assert.deepEqual(await client.cancel(id), { cancelled: true });
    await assert.rejects(waiting, api.JobCancelled);
    const { id: other } = await client.send("double", { number: 1 }, { delay: 600 });
    const leave = new AbortController();
    const left = client.wait(other, { signal: leave.signal });
    leave.abort(new Error("I have no more time"));
    await assert.rejects(left, /I have no more time/);
  },

  async troubles() {
    const { id } = await client.send("double", { number: 4 });
    const answers = [
      () => Promise.reject(new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") })),
      () => new Response("<h1>Bad gateway</h1>", { status: 502, statusText: "Bad Gateway" }),
    ];
    const tried = new api.Client(url, { token, fetch: (...asked) => (answers.shift() ?? fetch)(...asked) });
    assert.equal(await tried.result(id, { timeoutMs: 20_000 }), 8);
    assert.equal(answers.length, 0);
    const answering = (...answer) => new api.Client(url, { fetch: async () => new Response(...answer) });
    const refused = await answering("<h1>", { status: 503, headers: { "Retry-After": "2" } }).queues().then(assert.fail, (error) => error);
    assert.ok(refused instanceof api.Unavailable);
    assert.deepEqual([refused.type, refused.retryAfterS], ["Unknown", 2]);
    await assert.rejects(answering("<h1>Another app</h1>").queues(), /was not answered with JSON: is the app mounted at/);
    const deaf = createServer(() => {}).listen(0, "127.0.0.1");
    await once(deaf, "listening");
    const slow = new api.Client(`http://127.0.0.1:${deaf.address().port}`, { timeoutMs: 50 });
    const late = await slow.queues().then(assert.fail, (error) => error);
    assert.ok(late instanceof api.ConnectionLost);
    assert.match(late.message, /no answer in time/);
    await assert.rejects(slow.queues({ timeoutMs: 60_000, signal: AbortSignal.abort(new Error("enough")) }), /enough/);
    deaf.close();
  },

  async pages() {
    for (let number = 0; number < 5; number++) await client.send("double", { number }, { delay: 600 + number, id: `job ${number}` });
    const page = await client.jobsPage({ state: "delayed", actor: "double", limit: 2, since: new Date(0) });
    assert.deepEqual(page.jobs.map((job) => job.id), ["job 0", "job 1"]);
    const found = await all(client.jobs({ state: "delayed", actor: "double", limit: 2 }));
    assert.deepEqual(found.map((job) => job.id), [0, 1, 2, 3, 4].map((number) => `job ${number}`));
    assert.deepEqual(await all(client.jobs({ actor: "nobody" })), []);
    assert.deepEqual((await all(client.jobs({ text: "JOB 3" }))).map((job) => job.id), ["job 3"]);
  },

  async refusals() {
    const wrong = await client.send("double", { number: "many" }).then(assert.fail, (error) => error);
    assert.ok(wrong instanceof api.InvalidRequest);
    assert.deepEqual([wrong.status, wrong.type, wrong.fields[0].field], [422, "InvalidArguments", "arguments.number"]);
    const missing = await client.job("nobody").then(assert.fail, (error) => error);
    assert.ok(missing instanceof api.NotFound);
    assert.deepEqual([missing.type, missing.status], ["JobNotFound", 404]);
    await assert.rejects(new api.Client(url).queues(), api.NotAuthenticated);
    await assert.rejects(new api.Client(url, { token: "x".repeat(20) }).queues(), api.NotAuthenticated);
    const looking = new api.Client(url, { token: async () => reader });
    assert.equal((await looking.me()).role, "reader");
    await assert.rejects(looking.send("double", { number: 1 }), api.NotAllowed);
    assert.deepEqual((await client.pause({ queue: "default" })).changed, ["default"]);
    assert.deepEqual((await client.drain({ actor: "double" }, "a deploy")).changed, ["double"]);
    const drained = await client.send("double", { number: 1 }).then(assert.fail, (error) => error);
    assert.ok(drained instanceof api.Conflict);
    assert.equal(drained.type, "Draining");
    await client.resume({ actor: "double" });
    await client.resume({ queue: "default" });
    await assert.rejects(new api.Client("http://127.0.0.1:9").queues(), api.ConnectionLost);
    await assert.rejects(new api.Client(`${url}/nowhere`, { token }).queues(), api.NotFound);
  },

  async views() {
    assert.equal((await client.healthz()).status, "ok");
    assert.equal((await client.readyz()).status, "ready");
    assert.deepEqual([(await client.me()).role, (await client.me()).authRequired], ["operator", true]);
    assert.equal((await client.overview()).workers.live, 1);
    assert.equal((await client.series({ minutes: 3 })).minutes.length, 3);
    assert.ok((await client.queues()).queues.every((queue) => queue.isPaused === false));
    assert.ok((await client.actors()).actors.some((actor) => actor.name === "double" && actor.schema !== null));
    assert.equal((await client.workers()).workers.length, 1);
    assert.deepEqual((await client.alerts()).alerts, []);
    assert.equal((await client.openapi()).openapi, "3.1.0");
    const rule = "call.customer_id@default";
    assert.deepEqual((await client.limits()).rules, [{ name: rule, limit: "1 at a time", declared: null }]);
    assert.deepEqual((await client.limits()).usage, [{ rule, most: 1, gates: [], inUse: 0, hasMore: false }]);
    assert.deepEqual((await client.setLimit(rule, 3)).rules, [{ name: rule, limit: "3 at a time", declared: "1 at a time" }]);
    assert.equal((await client.setLimit(rule, null)).rules[0].declared, null);
    assert.deepEqual((await client.pause({ key: "customer_id=7" }, "asked for")).changed, [`${rule}=7`]);
    assert.equal((await client.limits()).pauses[0].reason, "asked for");
    assert.deepEqual((await client.resume({ key: "customer_id=7" })).changed, [`${rule}=7`]);
    assert.equal((await client.schedules()).schedules[0].payloadHidden, true);
    assert.notEqual((await client.pauseSchedule("nightly")).pausedBy, null);
    assert.equal((await client.resumeSchedule("nightly")).pausedBy, null);
    assert.deepEqual(await client.removeSchedule("nightly"), { done: true });
    await assert.rejects(client.removeSchedule("nightly"), api.NotFound);
    assert.ok((await client.audit({ limit: 50 })).entries.some((entry) => entry.action === "set limit"));
    await client.login(token);
    await client.logout();
  },

  async metrics() {
    assert.match(await client.metrics(), /^# HELP /m);
  },

  // The stream is broken after every event: none is missed, none comes twice.
  async events() {
    const asked = [];
    const fragile = async (place, request) => {
      const response = await fetch(place, request);
      asked.push(request.headers["Last-Event-ID"]);
      return new Response(response.body.pipeThrough(breaking()), { status: response.status });
    };
    const follower = new api.Client(url, { token, fetch: fragile });
    const states = [];
    const seen = [];
    const stream = follower.events({ after: "0", onState: (state) => states.push(state) });
    for (let number = 0; number < 4; number++) await client.send("double", { number }, { id: `job ${number}`, delay: 600 });
    for await (const event of stream) {
      if (event.verb === "enqueue") seen.push(...event.ids);
      if (seen.length === 4) break;
    }
    assert.deepEqual(seen, ["job 0", "job 1", "job 2", "job 3"]);
    assert.equal(asked[0], "0");
    assert.ok(asked.length > 1 && asked.slice(1).every((id) => /^\d+-\d+$/.test(id)));
    assert.deepEqual(states.slice(0, 3), ["open", "lost", "open"]);
    const leave = new AbortController();
    const quiet = client.events({ signal: leave.signal, onState: () => leave.abort(new Error("enough")) });
    await assert.rejects(quiet.next(), /enough/);
    await assert.rejects(new api.Client(url).events().next(), api.NotAuthenticated);
  },
};

async function all(items) {
  const found = [];
  for await (const item of items) found.push(item);
  return found;
}

function breaking() {
  let text = "";
  return new TransformStream({
    transform(chunk, controller) {
      text += new TextDecoder().decode(chunk);
      const end = text.indexOf("\n\n", text.indexOf("data:"));
      if (!text.includes("data:") || end < 0) return;
      controller.enqueue(new TextEncoder().encode(text.slice(0, end + 2)));
      controller.error(new TypeError("terminated"));
    },
  });
}

await scenarios[name]();
