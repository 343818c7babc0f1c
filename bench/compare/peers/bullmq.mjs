// BullMQ on Node: lists and Lua scripts, a lock for each job in progress. Speaks as bench/compare/adapter.py does.

import { createRequire } from "node:module";
import { appendFileSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [role, url, concurrency] = process.argv.slice(2);
const modules = process.env.COMPARE_MODULES;
const { Queue, Worker } = createRequire(`${modules}/`)("bullmq");
const { hostname: host, port } = new URL(url);
const connection = { host, port: Number(port) };
const SENDERS = 100;
const BULK = 1000;
const BEHIND_US = 1e6;

const about = {
  distribution: "bullmq",
  settings: "defaults; concurrency 100; addBulk in chunks of 1,000",
  documented: "https://docs.bullmq.io/guide/workers/concurrency",
  killed: "runs again when its lock has expired and the check of every 30 s finds it",
  loses: "",
  results: "kept",
  pickup: "blocks",
  version: JSON.parse(readFileSync(`${modules}/node_modules/bullmq/package.json`, "utf8")).version,
  runs_on: `Node ${process.versions.node}`,
};

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const nowUs = () => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + Math.floor(nanoseconds / 1000);
};
const dataOf = (number, kind = "x") => `${String(number).padStart(20, "0")}${kind}`.padEnd(100, "x");
const numbered = (n, kind) => Array.from({ length: n }, (_, number) => dataOf(number, kind));
const answer = (fields) => process.stdout.write(`${JSON.stringify(fields)}\n`);
const between = (least, most) => least + Math.random() * (most - least);

let stamps = [];
const session = process.pid;
const trace = (mark, data) => appendFileSync(process.env.COMPARE_TRACES, `${mark} ${Number(data.slice(0, 20))} ${session}\n`);

async function job({ data: { data } }) {
  const kind = data[20];
  if (kind === "i") {
    await sleep(10);
  } else if (kind === "s") {
    trace("b", data);
    await sleep(50);
    trace("e", data);
  }
  stamps.push([nowUs(), Number(data.slice(0, 20))]);
}

async function concurrently(send, many, senders) {
  let next = 0;
  const sender = async () => {
    while (next < many) await send(next++);
  };
  await Promise.all(Array.from({ length: senders }, sender));
}

function client(queue) {
  const send = (data, options) => queue.add("job", { data }, options);
  return {
    async single({ n }) {
      const many = numbered(n);
      const begun = nowUs();
      for (const data of many) await send(data);
      return { seconds: (nowUs() - begun) / 1e6 };
    },
    async concurrent({ n }) {
      const many = numbered(n);
      const begun = nowUs();
      await concurrently((i) => send(many[i]), n, SENDERS);
      return { seconds: (nowUs() - begun) / 1e6 };
    },
    async bulk({ n, kind }) {
      const many = numbered(n, kind).map((data) => ({ name: "job", data: { data } }));
      const begun = nowUs();
      for (let i = 0; i < n; i += BULK) await queue.addBulk(many.slice(i, i + BULK));
      return { seconds: (nowUs() - begun) / 1e6 };
    },
    async idle({ n, least_s, most_s }) {
      for (let i = 0; i < n; i++) {
        await sleep(between(least_s, most_s) * 1000);
        await send(dataOf(nowUs()));
      }
      return {};
    },
    async open_loop({ rate, seconds }) {
      const sends = [];
      const begun = nowUs();
      let late = 0;
      while (sends.length < Math.floor(rate * seconds) && late < BEHIND_US) {
        const due = begun + (sends.length * 1e6) / rate;
        for (let pause; (pause = due - nowUs()) > 0; ) await sleep(pause / 1000);
        late = nowUs() - due;
        sends.push(send(dataOf(nowUs())));
      }
      await Promise.all(sends);
      return { seconds: (nowUs() - begun) / 1e6, late_ms: late / 1000, sent: sends.length };
    },
    async delayed({ n, least_s, most_s }) {
      const dues = Array.from({ length: n }, () => nowUs() + Math.floor(between(least_s, most_s) * 1e6));
      await concurrently((i) => send(dataOf(dues[i]), { delay: Math.round((dues[i] - nowUs()) / 1000) }), n, 10);
      return {};
    },
  };
}

function counts(worker) {
  const count = async () => ({ done: stamps.length });
  return {
    async go() {
      worker.run();
      return {};
    },
    count,
    async wait({ n, timeout_s }) {
      const giveUpAt = nowUs() + timeout_s * 1e6;
      while (stamps.length < n && nowUs() < giveUpAt) await sleep(5);
      return count();
    },
    dump: async () => ({ stamps }),
    async clear() {
      stamps = [];
      return {};
    },
  };
}

let commands;
if (role === "worker") {
  const worker = new Worker("compare", job, { connection, concurrency: Number(concurrency), autorun: false });
  worker.on("error", (error) => console.error(error.message));
  await worker.waitUntilReady();
  commands = counts(worker);
} else {
  const queue = new Queue("compare", { connection });
  await queue.waitUntilReady();
  commands = client(queue);
}
answer(about);
const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0));
for await (const line of lines) {
  const { do: verb, ...rest } = JSON.parse(line);
  answer(await commands[verb](rest));
}
