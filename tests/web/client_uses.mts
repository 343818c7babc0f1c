// How programs use the client, checked by tsc alone: each line below an `@ts-expect-error` must be refused.

import { ApiError, Client, type Event, type Outcome, type ShownJob, type Status } from "../../src/angelrt/web/client/angelrt.mjs";

interface Actors {
  send_mail: { to: string; subject?: string };
  report: { customer_id: number };
}

const client = new Client<Actors>("/queues", { token: async () => "a token", timeoutMs: 5_000 });

export async function right(signal: AbortSignal): Promise<void> {
  const { id, isNew } = await client.send("send_mail", { to: "ann@example.org" }, { id: "mail 7", delay: 5, tenant: "acme" });
  const status: Status = isNew ? await client.status(id) : "pending";
  const total: number = await client.result<number>(id, { timeoutMs: 60_000, signal });
  const outcome: Outcome = await client.wait(id);
  for await (const job of client.jobs({ state: "failed", since: new Date(0) })) shown(job);
  for await (const event of client.events({ after: "0", signal, onState: (state) => state === "open" })) heard(event);
  await client.pause({ key: "customer_id=7" }, `at ${total}: ${status} ${outcome.error?.message}`);
  try {
    await client.retry(id, { arguments: { to: "bob@example.org" } });
  } catch (error) {
    if (error instanceof ApiError) error.fields.map((fault) => fault.field.length);
  }
  await new Client("/queues").send("anything", { at: "all" });
}

export async function wrong(): Promise<void> {
  // @ts-expect-error - no actor of this name
  await client.send("send_male", { to: "ann@example.org" });
  // @ts-expect-error - an argument of another type
  await client.send("report", { customer_id: "7" });
  // @ts-expect-error - no option of this name
  await client.send("report", { customer_id: 7 }, { delayed: 5 });
  // @ts-expect-error - no state of this name
  client.jobs({ state: "lost" });
  // @ts-expect-error - one thing is named
  await client.pause({});
  // @ts-expect-error - a result is of no type until one is named
  (await client.result("7")).toFixed();
  // @ts-expect-error - hidden arguments are null
  (await client.job("7")).payload.to;
}

declare function shown(job: ShownJob): void;
declare function heard(event: Event): void;
