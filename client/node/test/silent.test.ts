import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { test } from "node:test";

import { Client, DeadlineExceeded, ServerUnavailable, Workflow } from "stepwave";

import { serve } from "./server.js";

const flow = new Workflow("waiting");
flow.step("a", "core.wait");

/** Accept connections and say nothing, while a function uses the address. */
async function silent(use: (address: string) => Promise<void>): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on("error", () => undefined))).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    await use(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** Return how many seconds a promise takes to reject, and with what. */
async function rejection(promise: PromiseLike<unknown>): Promise<[number, unknown]> {
  const begun = performance.now();
  const error = await Promise.resolve(promise).then(() => assert.fail(), (caught: unknown) => caught);
  return [(performance.now() - begun) / 1000, error];
}

test("a run and a call on a server that says nothing are ServerUnavailable after connectTimeout", async () => {
  await silent(async (address) => {
    const client = new Client(address, { connectTimeout: 1.5, reconnectWindow: 60 });
    const found = await Promise.all([rejection(client.run(flow)), rejection(client.get("x")), rejection(client.wait("x"))]);
    for (const [seconds, error] of found) {
      assert.ok(error instanceof ServerUnavailable, String(error));
      assert.match(error.message, /does not answer/);
      assert.ok(seconds > 1.4 && seconds < 4, `${seconds} s`);
    }
    client.close();
  });
});

test("the timeout and the signal of a run hold on a server that says nothing", async () => {
  await silent(async (address) => {
    const client = new Client(address, { connectTimeout: 60 });
    const [late, timedOut] = await rejection(client.run(flow, null, { timeout: 0.5 }));
    assert.ok(timedOut instanceof DeadlineExceeded && late < 2, `${late} s, ${String(timedOut)}`);
    const [soon, aborted] = await rejection(client.run(flow, null, { signal: AbortSignal.timeout(100) }));
    assert.ok((aborted as Error).name === "TimeoutError" && soon < 2, `${soon} s, ${String(aborted)}`);
    const [, call] = await rejection(client.get("x", { signal: AbortSignal.timeout(100) }));
    assert.equal((call as Error).name, "TimeoutError");
    client.close();
  });
});

test("a server that answers later than connectTimeout of another call is reached by the next one", async () => {
  const server = await serve();
  let passing = false;
  const [host, port] = server.address.split(":") as [string, string];
  const sockets: Socket[] = [];
  const proxy = createServer((socket) => {
    sockets.push(socket.on("error", () => undefined));
    if (!passing) return;
    const upstream = connect(Number(port), host).on("error", () => undefined);
    socket.pipe(upstream).pipe(socket);
  }).listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const client = new Client(`127.0.0.1:${(proxy.address() as AddressInfo).port}`, { connectTimeout: 1 });
  await assert.rejects(client.serverInfo(), ServerUnavailable);
  passing = true;
  assert.equal((await client.serverInfo()).engine, "local");
  client.close();
  for (const socket of sockets) socket.destroy();
  proxy.close();
  await server.kill();
});

test("a server that is frozen in mid-stream is lost, and reconnectWindow holds", async () => {
  const server = await serve();
  const client = new Client(server.address, { reconnectWindow: 2 });
  const reading = (async () => {
    for await (const event of client.run(flow)) if (event.type === "step_started") server.signal("SIGSTOP");
  })();
  const [seconds, error] = await rejection(reading);
  assert.ok(error instanceof ServerUnavailable && /did not come back/.test(error.message), String(error));
  assert.ok(seconds < 60, `${seconds} s`); // 30 s until a keepalive ping, 10 s for its answer, then the window
  client.close();
  await server.kill();
});

test("an abort on a frozen server does not wait for the cancel", async () => {
  const server = await serve();
  const client = new Client(server.address);
  const controller = new AbortController();
  const run = client.run(flow, null, { signal: controller.signal });
  let aborted = 0;
  const reading = (async () => {
    for await (const event of run) {
      if (event.type !== "step_started") continue;
      server.signal("SIGSTOP");
      aborted = performance.now();
      controller.abort();
    }
  })();
  await assert.rejects(reading, { name: "AbortError" });
  const seconds = (performance.now() - aborted) / 1000;
  assert.ok(seconds < 2, `${seconds} s`);
  client.close();
  await server.kill();
});
