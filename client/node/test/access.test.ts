import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { AccessDenied, Client, Workflow } from "stepwave";

import { serve } from "./server.js";

const certificates = process.env["CERTIFICATES"]; // a folder with ca.pem, server.pem and server.key, for localhost

function accessFile(): string {
  const path = join(mkdtempSync(join(tmpdir(), "stepwave-")), "access.toml");
  const sha256 = createHash("sha256").update("secret-token").digest("hex");
  const lines = ["[namespaces.default]", "[[tokens]]", 'name = "ci"', `sha256 = "${sha256}"`, 'roles = {default = "runner"}'];
  writeFileSync(path, lines.join("\n"));
  return path;
}

function echo(): Workflow {
  const flow = new Workflow("echo");
  flow.step("a", "core.echo", 1);
  return flow;
}

test("a token gives access, and its role is the limit", async () => {
  const server = await serve(["--journal", "memory", "--access", accessFile()]);
  const client = new Client(server.address, { token: "secret-token" });
  const result = await client.run(echo());
  assert.deepEqual(result.outputs, { a: 1 });
  assert.equal((await client.get(result.runId)).createdBy, "token:ci");
  await assert.rejects(client.delete(result.runId), (error: Error) => {
    return error instanceof AccessDenied && error.reason === "PERMISSION_DENIED" && error.metadata["role"] === "admin";
  });
  const stranger = new Client(server.address);
  await assert.rejects(stranger.run(echo()), (error: Error) => {
    return error instanceof AccessDenied && error.reason === "UNAUTHENTICATED";
  });
  client.close();
  stranger.close();
  await server.kill();
});

test("a token and TLS go together", { skip: !certificates && "no CERTIFICATES" }, async () => {
  const file = (name: string) => join(certificates!, name);
  const options = ["--tls-cert", file("server.pem"), "--tls-key", file("server.key"), "--access", accessFile()];
  const server = await serve(["--journal", "memory", ...options], "localhost:0");
  const client = new Client(server.address, { token: "secret-token", tlsCa: file("ca.pem") });
  assert.deepEqual((await client.run(echo())).outputs, { a: 1 });
  client.close();
  await server.kill();
});

test("nothing goes to another machine as plain text unasked, and a token never", () => {
  for (const address of ["flows.internal:50051", "10.0.0.1:50051", "ipv4:127.0.0.1:1,10.0.0.1:1"]) {
    assert.throws(() => new Client(address), /the connection is not encrypted/);
    assert.throws(() => new Client(address, { token: "t", insecure: true }), /a token never goes there/);
    new Client(address, { insecure: true }).close();
    new Client(address, { token: "t", tls: true }).close();
  }
  for (const address of ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:/tmp/x"]) new Client(address, { token: "t" }).close();
});

test("an address is no URL", () => {
  assert.throws(() => new Client("http://localhost:50051"), /HOST:PORT/);
  assert.throws(() => new Client("localhost"), /HOST:PORT/);
});

test("a token is stripped of white space, and no error shows it", async () => {
  const server = await serve(["--journal", "memory", "--access", accessFile()]);
  const client = new Client(server.address, { token: " secret-token\n" });
  assert.deepEqual((await client.run(echo())).outputs, { a: 1 });
  client.close();
  await server.kill();
  assert.throws(() => new Client(server.address, { token: "secret\ntoken" }), (error: Error) => {
    return error instanceof TypeError && !error.message.includes("secret");
  });
});
