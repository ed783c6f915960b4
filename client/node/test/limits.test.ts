import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import * as grpc from "@grpc/grpc-js";
import * as loader from "@grpc/proto-loader";
import { Client } from "stepwave";

type Call = grpc.ServerWritableStream<unknown, unknown>;
type Type = { serialize(message: object): Buffer };

const contract = loader.loadSync(["stepwave/v1/orchestrator.proto", "error_details.proto"], {
  includeDirs: [fileURLToPath(new URL("../dist/proto/", import.meta.url))],
  keepCase: true,
});

const result = { run_id: "r", state: "STATE_SUCCEEDED" };

/** End a call as a server does that has no place for another stream. */
function refuse(call: Call): void {
  const value = (contract["google.rpc.RetryInfo"] as unknown as Type).serialize({ retry_delay: { nanos: 1000 } });
  const details = [{ type_url: "type.googleapis.com/google.rpc.RetryInfo", value }];
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", (contract["google.rpc.Status"] as unknown as Type).serialize({ code: 8, details }));
  call.emit("error", { code: grpc.status.RESOURCE_EXHAUSTED, details: "too many streams", metadata });
}

test("a resume that meets a limit is tried again when the server says", async () => {
  const called: string[] = [];
  const server = new grpc.Server();
  server.addService(contract["stepwave.v1.OrchestratorService"] as grpc.ServiceDefinition, {
    ExecuteWorkflow(call: Call) {
      called.push("ExecuteWorkflow");
      call.write({ run_id: "r", events: [{ run_id: "r", sequence: 1, run_started: {} }], last_sequence: 1 });
      call.end();
    },
    WatchRun(call: Call) {
      called.push("WatchRun");
      if (called.length === 2) return refuse(call);
      call.write({ events: [{ run_id: "r", sequence: 2, run_finished: { result } }], last_sequence: 2 });
      call.end();
    },
  } as unknown as grpc.UntypedServiceImplementation);
  const credentials = grpc.ServerCredentials.createInsecure();
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const client = new Client(`127.0.0.1:${port}`);
  assert.equal((await client.run("w", null, { runId: "r" })).state, "succeeded");
  assert.deepEqual(called, ["ExecuteWorkflow", "WatchRun", "WatchRun"]);
  client.close();
  server.forceShutdown();
});
